/** Threads of a session: workers on one shared memory, started once, which do their share of every run. */
import {
  BROKEN,
  CONTROL_WORDS,
  FIRST,
  LAST,
  ModelError,
  POSTED,
  STACK_BYTES,
  fromNode,
  instantiateShared,
  isNode,
  note,
} from "./shared.mjs";

const MAX_THREADS = 64;
const SLICE_MS = 50;
/** A run in which nothing happens for so long has lost a worker. */
const STALL_MS = 20_000;

/** Returns how many threads to use: what was asked for, or 1 with a note where there are none. */
export function usableThreads(threads, build, whyNoBuild, notes) {
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw new ModelError("input", `threads: expected 1 to ${MAX_THREADS}, found ${threads}`);
  }
  const reason = threads > 1 ? (whyNoThreads() ?? (build ? null : whyNoBuild)) : null;
  if (reason) {
    note(notes, `one thread instead of ${threads}: ${reason}`);
  }
  return reason ? 1 : threads;
}

function whyNoThreads() {
  if (globalThis.crossOriginIsolated === false) {
    return (
      "the page is not cross-origin isolated, which takes the headers " +
      "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp"
    );
  }
  if (typeof SharedArrayBuffer === "undefined") {
    return "this engine has no SharedArrayBuffer";
  }
  return typeof Worker === "undefined" && !isNode() ? "this engine has no workers" : null;
}

/** A memory of exactly so many pages that threads can share. */
export function sharedMemory(pages) {
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** Starts a worker; bundlers look for the second `new Worker`. */
async function startWorker() {
  if (isNode()) {
    const { Worker: NodeWorker } = await fromNode("worker_threads");
    // By default it inherits flags like --input-type, which it refuses.
    return new NodeWorker(new URL("./worker.mjs", import.meta.url), { execArgv: [] });
  }
  return new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" });
}

function canSleepHere() {
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 0);
    return true;
  } catch {
    return false; // the main thread of a page
  }
}

/** The main thread and its workers. */
export class Team {
  #control;
  #words;
  #workers = [];
  #sleeps = canSleepHere();

  constructor(memory) {
    this.#words = new Int32Array(memory.buffer);
  }

  /** Returns the exports of the main thread's instance. */
  async instantiate(module, memory) {
    return instantiateShared(module, memory, (address, value) => this.#wait(address >>> 2, value));
  }

  /**
   * Starts the workers and returns when all wait for work.
   *
   * @param order What every worker is told: module, memory, team, model.
   * @param controlAt Address of the control block.
   * @param stacksAt Address of the workers' stacks.
   */
  async start(order, threads, controlAt, stacksAt) {
    const control = new Int32Array(this.#words.buffer, controlAt, CONTROL_WORDS);
    this.#control = control;
    const starting = [];
    for (let thread = 1; thread < threads; thread++) {
      const stackTop = stacksAt + thread * STACK_BYTES;
      starting.push(this.#startOne({ ...order, control, stackTop, thread }));
    }
    try {
      await Promise.all(starting);
    } catch (error) {
      this.close();
      const why = error.message ?? "its script cannot be loaded; does the page's policy allow worker-src 'self'?";
      throw new ModelError("threads", `starting a worker: ${why}`);
    }
  }

  async #startOne(order) {
    const worker = await startWorker();
    this.#workers.push(worker);
    await new Promise((resolve, reject) => {
      const listen = (event, listener) =>
        worker.on ? worker.on(event, listener) : worker.addEventListener(event, listener);
      const fail = (error) => {
        Atomics.store(this.#control, BROKEN, 1);
        reject(error);
      };
      // Its first message is empty when it waits for work, or says what went wrong.
      listen("message", (event) => {
        const message = event.data ?? event;
        message ? fail({ message }) : resolve();
      });
      listen("error", (event) => fail(event.error ?? event));
      listen("exit", (status) => fail({ message: `it ended with status ${status}` }));
      worker.postMessage(order);
    });
    worker.unref?.(); // a program in node that forgets to close the session still ends
  }

  /** Has the workers do their shares of steps first <= step < last; the caller then does its own. */
  post(first, last) {
    if (Atomics.load(this.#control, BROKEN) !== 0) {
      throw new ModelError("threads", "running the model: a worker has failed");
    }
    this.#control[FIRST] = first;
    this.#control[LAST] = last;
    Atomics.add(this.#control, POSTED, 1);
    Atomics.notify(this.#control, POSTED);
  }

  /** Ends the workers. */
  close() {
    this.#workers.forEach((worker) => worker.terminate());
    this.#workers = [];
  }

  /** Waits until a word is no longer `value`; asleep where that is allowed. */
  #wait(index, value) {
    let left = STALL_MS;
    let before = performance.now();
    while (Atomics.load(this.#words, index) === value) {
      if (this.#sleeps) {
        Atomics.wait(this.#words, index, value, SLICE_MS);
      }
      const now = performance.now();
      left -= Math.min(now - before, SLICE_MS); // a laptop that was asleep has lost nobody
      before = now;
      if (left < 0 || Atomics.load(this.#control, BROKEN) !== 0) {
        throw new ModelError("threads", "running the model: a worker has failed or does not answer");
      }
    }
  }
}
