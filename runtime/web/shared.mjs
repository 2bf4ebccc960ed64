/**
 * What all modules share, workers too: errors, the words of a control block in the memory of a session
 * with threads, and how each thread makes an instance of the module.
 */

/** Runs posted since the start: who waits for one watches this. */
export const POSTED = 0;
/** The steps of the run that was posted last, the second one exclusive. */
export const FIRST = 1;
export const LAST = 2;
/** Not 0 once a worker has failed. */
export const BROKEN = 3;
export const CONTROL_WORDS = 16;

export const PAGE_BYTES = 65536;
export const TEAM_BYTES = 192;
export const STACK_BYTES = 256 << 10;

/** Every failure; `code` is bundle, weights, simd, input, memory, threads, closed or model. */
export class ModelError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "ModelError";
    this.code = code;
  }
}

/** Does something; what it throws becomes a ModelError, or the caller's own reason when the caller has aborted. */
export async function attempt(code, doing, signal, action) {
  try {
    return await action();
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof ModelError ? error : new ModelError(code, `${doing}: ${error.message}`);
  }
}

export function isNode() {
  return globalThis.process?.versions?.node;
}

/** Imports a module of node's; bundlers are told to leave it alone. */
export function fromNode(name) {
  return import(/* webpackIgnore: true */ /* @vite-ignore */ `node:${name}`);
}

const said = new Set();

/** Notes what this engine or page lacks, and says it on the console once. */
export function note(notes, text) {
  notes.push(text);
  if (!said.has(text)) {
    said.add(text);
    console.warn(`edgesparse: ${text}`);
  }
}

/**
 * Returns the exports of a new instance on a shared memory.
 *
 * @param wait Called with an address and a value: returns when that word holds something else.
 */
export async function instantiateShared(module, memory, wait) {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory, es_wait: wait } });
  return exports;
}
