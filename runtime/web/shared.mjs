/**
 * What the threads of a session agree on: the words of a control block in their memory, and how each
 * makes an instance of the module.
 */

/** Runs posted since the start: who waits for one watches this. */
export const POSTED = 0;
/** The steps of the run that was posted last, the second one exclusive. */
export const FIRST = 1;
export const LAST = 2;
/** Not 0 once a worker has failed. */
export const BROKEN = 3;
export const CONTROL_WORDS = 16;

export const MAX_THREADS = 64;
export const TEAM_BYTES = 192;
export const STACK_BYTES = 256 << 10;

/**
 * Returns the exports of a new instance on a shared memory.
 *
 * @param wait Called with an address and a value: returns when that word holds something else.
 */
export async function instantiateShared(module, memory, wait) {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory, es_wait: wait } });
  return exports;
}
