/** A thread of a session: waits for runs and does its share of each. Started by threads.mjs. */
import { BROKEN, FIRST, LAST, POSTED, instantiateShared } from "./shared.mjs";

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

async function start(order, post) {
  const { module, memory, controlAt, wordCount, stackTop, thread, team, model } = order;
  const words = new Int32Array(memory.buffer);
  const control = new Int32Array(memory.buffer, controlAt, wordCount);
  const wait = (address, value) => void Atomics.wait(words, address >>> 2, value);
  const exports = await instantiateShared(module, memory, wait);
  exports.__stack_pointer.value = stackTop;
  let seen = Atomics.load(control, POSTED);
  post("ready");
  try {
    for (;;) {
      waitForRun(control, seen);
      seen = (seen + 1) | 0;
      if (exports.es_run_thread(...model, team, thread, control[FIRST], control[LAST]) !== 0) {
        throw new Error("the model's code reported a failure");
      }
    }
  } finally {
    Atomics.store(control, BROKEN, 1);
  }
}

if (globalThis.process?.versions?.node) {
  import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads").then(({ parentPort }) =>
    parentPort.once("message", (order) => start(order, (text) => parentPort.postMessage(text))),
  );
} else {
  addEventListener("message", ({ data }) => start(data, (text) => postMessage(text)), { once: true });
}
