/** A thread of a session: waits for runs and does its share of each. Started by threads.mjs. */
import { BROKEN, FIRST, LAST, POSTED, fromNode, instantiateShared, isNode } from "./shared.mjs";

/** Looks for a new run before sleeping, some 100 us. */
const SPINS = 20_000;

/** Returns when more than `seen` runs are posted. */
function waitForRun(control, seen) {
  for (let i = 0; i < SPINS; i++) {
    if (Atomics.load(control, POSTED) !== seen) {
      return;
    }
  }
  Atomics.wait(control, POSTED, seen);
}

/** Does this thread's share of every run; does not return while the session is in order. */
async function work({ module, memory, control, stackTop, model, team, thread }, port) {
  const words = new Int32Array(memory.buffer);
  const wait = (address, value) => Atomics.wait(words, address >>> 2, value);
  try {
    const exports = await instantiateShared(module, memory, wait);
    exports.__stack_pointer.value = stackTop;
    let seen = Atomics.load(control, POSTED);
    port.postMessage("");
    do {
      waitForRun(control, seen);
      seen = (seen + 1) | 0;
    } while (exports.es_run_thread(...model, team, thread, control[FIRST], control[LAST]) === 0);
  } catch (error) {
    port.postMessage(error.message);
  } finally {
    Atomics.store(control, BROKEN, 1);
  }
}

function serve(port) {
  port.onmessage = ({ data }) => work(data, port);
}

if (isNode()) {
  fromNode("worker_threads").then(({ parentPort }) => serve(parentPort));
} else {
  serve(globalThis);
}
