/**
 * The commands of the bench runner, for node (runner.mjs) and for a page (runner-page.mjs).
 *
 * One command a line, one JSON object for each:
 *     run COUNT INPUT_FILE OUTPUT_FILE | load INPUT_FILE | bench COUNT [BATCH] | profile COUNT
 *
 * A host is `{now, read, write}`: nanoseconds of a steady clock, the bytes of a file, and a file written.
 */
const MAX_SAMPLES = 10_000_000;
const CLOCK_READINGS = 200;

/** A command that is refused; `code` goes into the answer. */
export class CommandError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** What the runner says first: the session is open. */
export function readyAnswer(session, openMs, now) {
  return {
    ready: true,
    open_ms: openMs,
    arena_bytes: session.manifest.arena_bytes,
    step_count: session.stepCount,
    timer_resolution_ns: timerResolution(now),
  };
}

/** What the runner says when something fails. */
export function errorAnswer(error) {
  return { error: error.message, code: typeof error.code === "string" ? error.code : "failed" };
}

/** The smallest step the clock was seen to make, in nanoseconds. */
function timerResolution(now) {
  let smallest = Infinity;
  for (let i = 0; i < CLOCK_READINGS; i++) {
    const start = now();
    let end = start;
    while (end === start) {
      end = now();
    }
    smallest = Math.min(smallest, end - start);
  }
  return Math.round(smallest);
}

/** The arrays of a sample in the model's order, which an object does not keep for names like "12". */
const inOrder = (session, sample) => session.inputs.map(({ name }) => sample[name]);

/** The same fixed pattern as the native runner: floats in [-1, 1], integers 0. */
function patternInputs(session) {
  let state = 0x9e3779b9;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 8388607.5 - 1;
  };
  const inputs = session.createInputs();
  for (const array of inOrder(session, inputs)) {
    if (array instanceof Float32Array || array instanceof Float64Array) {
      array.forEach((_, i) => (array[i] = next()));
    }
  }
  return inputs;
}

const bytesOf = ({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength);

/** Cuts a file's bytes into `count` samples; returns one object of inputs each. */
function cutSamples(session, bytes, count, path) {
  const arrays = inOrder(session, session.createInputs());
  const sampleBytes = arrays.reduce((sum, array) => sum + array.byteLength, 0);
  if (bytes.length !== count * sampleBytes) {
    const expected = `expected ${count * sampleBytes} bytes, found ${bytes.length}`;
    throw new CommandError("file", `reading ${path}: ${expected}`);
  }
  let at = 0;
  return Array.from({ length: count }, () => {
    const sample = session.createInputs();
    for (const array of inOrder(session, sample)) {
      bytesOf(array).set(bytes.subarray(at, at + array.byteLength));
      at += array.byteLength;
    }
    return sample;
  });
}

function parseCount(word) {
  const value = /^\d+$/.test(word) ? Number(word) : 0;
  if (value < 1 || value > MAX_SAMPLES) {
    throw new CommandError("usage", `expected a number from 1 to ${MAX_SAMPLES}, found ${word}`);
  }
  return value;
}

function joined(chunks) {
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

function splitWords(line) {
  return Array.from(line.matchAll(/"([^"]*)"?|[^\s"]\S*/g), (match) => match[1] ?? match[0]);
}

/** Commands answer with an object. Timing commands find the timed inputs in place: `run` puts them back. */
class Commands {
  constructor(session, host) {
    this.session = session;
    this.host = host;
    this.timedInputs = patternInputs(session);
    session.setInputs(this.timedInputs);
  }

  async run([countWord, inputFile, outputFile]) {
    const count = parseCount(countWord);
    const chunks = [];
    try {
      for (const sample of await this.readSamples(inputFile, count)) {
        this.session.setInputs(sample);
        this.session.runSteps();
        const outputs = this.session.getOutputs();
        chunks.push(...this.session.outputs.map(({ name }) => bytesOf(outputs[name])));
      }
      await this.host.write(outputFile, joined(chunks));
    } finally {
      this.session.setInputs(this.timedInputs);
    }
    return { ran: count };
  }

  async load([inputFile]) {
    [this.timedInputs] = await this.readSamples(inputFile, 1);
    this.session.setInputs(this.timedInputs);
    return { loaded: true };
  }

  async readSamples(path, count) {
    return cutSamples(this.session, await this.host.read(path), count, path);
  }

  bench([countWord, batchWord = "1"]) {
    const { now } = this.host;
    const samples = new Array(parseCount(countWord)).fill(0);
    const batch = parseCount(batchWord);
    const last = this.session.stepCount;
    for (let i = 0; i < samples.length; i++) {
      const start = now();
      for (let j = 0; j < batch; j++) {
        this.session.runSteps(0, last);
      }
      samples[i] = (now() - start) / batch;
    }
    return { samples_ns: samples };
  }

  profile([countWord]) {
    const profiles = Array.from({ length: parseCount(countWord) }, () => this.profileOnce());
    return { steps_ns: profiles };
  }

  profileOnce() {
    const { now } = this.host;
    const steps = new Array(this.session.stepCount).fill(0);
    let start = now();
    for (let step = 0; step < steps.length; step++) {
      this.session.runSteps(step, step + 1);
      const end = now();
      steps[step] = end - start;
      start = end;
    }
    return steps;
  }
}

const WORDS = { run: [3, 3], load: [1, 1], bench: [1, 2], profile: [1, 1] };

/** Answers lines. */
export class Runner {
  #commands;

  constructor(session, host) {
    this.#commands = new Commands(session, host);
  }

  /** Returns the object that answers a line; null for a line without words. */
  async answer(line) {
    const words = splitWords(line);
    try {
      return words.length === 0 ? null : await this.#dispatch(words);
    } catch (error) {
      return errorAnswer(error);
    }
  }

  #dispatch([name, ...words]) {
    if (!Object.hasOwn(WORDS, name)) {
      throw new CommandError("usage", `unknown command ${name}: expected run, load, bench, profile or quit`);
    }
    const [least, most] = WORDS[name];
    if (words.length < least || words.length > most) {
      throw new CommandError("usage", `${name} takes ${least} to ${most} words, found ${words.length}`);
    }
    return this.#commands[name](words);
  }
}

/** Returns the number of threads a runner is told, which must be what it then gets. */
export function parseThreads(word) {
  return word === undefined ? 1 : parseCount(word);
}

/** A benchmark on fewer threads than were asked for would be a wrong figure. */
export function requireThreads(session, threads) {
  if (session.threads !== threads) {
    throw new CommandError("threads", `expected ${threads} threads, found ${session.threads}: ${session.backend}`);
  }
}
