/** Times a session in this tab. Browsers round their clocks (to 5 µs, or 100 µs), so a sample is a batch of runs. */

const SAMPLE_MS = 10;
const WARMUP_MS = 600;
const PROFILE_MS = 1200;
const SLICE_MS = 30;

/** Lets the page draw and answer. */
const breathe = () => new Promise((resolve) => setTimeout(resolve));

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Returns milliseconds per run, the mean of `batch` runs. */
export async function sample(session, batch) {
  await breathe();
  const start = performance.now();
  for (let i = 0; i < batch; i++) {
    session.runSteps();
  }
  return (performance.now() - start) / batch;
}

/** Runs until the engine has optimised the code; returns how many runs make a sample. */
export async function warmUp(session) {
  const start = performance.now();
  let runs = 0;
  let slice = start;
  while (performance.now() - start < WARMUP_MS || runs < 3) {
    session.runSteps();
    runs++;
    if (performance.now() - slice > SLICE_MS) {
      await breathe();
      slice = performance.now();
    }
  }
  const timed = performance.now();
  session.runSteps();
  const ms = Math.max((timed - start) / runs / 2, performance.now() - timed, 0.001);
  return Math.max(1, Math.round(SAMPLE_MS / ms));
}

/**
 * Returns the mean milliseconds of every layer over many whole runs, so that each layer finds the caches as
 * in a real run; the clock's rounding averages out.
 */
export async function profile(session) {
  const layers = session.decisions;
  const totals = new Float64Array(layers.length);
  const start = performance.now();
  let runs = 0;
  while (performance.now() - start < PROFILE_MS || runs < 3) {
    const slice = performance.now();
    do {
      profileOnce(session, layers, totals);
      runs++;
    } while (performance.now() - slice < SLICE_MS);
    await breathe();
  }
  return totals.map((total) => total / runs);
}

function profileOnce(session, layers, totals) {
  let before = performance.now();
  layers.forEach(({ steps: [first, last] }, i) => {
    session.runSteps(first, last);
    const after = performance.now();
    totals[i] += after - before;
    before = after;
  });
}
