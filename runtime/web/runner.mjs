/**
 * The bench runner for node: the same protocol as the native `runner`.
 *
 *     node runner.mjs BUNDLE_DIR
 *
 * One command a line on stdin, one JSON object a line on stdout, nothing else:
 *     run COUNT INPUT_FILE OUTPUT_FILE | load INPUT_FILE | bench COUNT [BATCH] | profile COUNT | quit
 */
import { closeSync, fstatSync, openSync, readSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

import { Session } from "./index.mjs";

const MAX_SAMPLES = 10_000_000;

const now = () => process.hrtime.bigint();

class CommandError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The smallest step the clock was seen to make, in nanoseconds. */
function timerResolution() {
  let smallest = Infinity;
  for (let i = 0; i < 200; i++) {
    const start = now();
    let end = start;
    while (end === start) {
      end = now();
    }
    smallest = Math.min(smallest, Number(end - start));
  }
  return smallest;
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

/** Reads `count` samples; returns one object of inputs each. */
function readSamples(session, path, count) {
  const arrays = inOrder(session, session.createInputs());
  const sampleBytes = arrays.reduce((sum, array) => sum + array.byteLength, 0);
  const file = openSync(path);
  try {
    const found = fstatSync(file).size;
    if (found !== count * sampleBytes) {
      const expected = `expected ${count * sampleBytes} bytes, found ${found}`;
      throw new CommandError("file", `reading ${path}: ${expected}`);
    }
    return Array.from({ length: count }, () => {
      const sample = session.createInputs();
      inOrder(session, sample).forEach((array) => readSync(file, array));
      return sample;
    });
  } finally {
    closeSync(file);
  }
}

function parseCount(word) {
  const value = /^\d+$/.test(word) ? Number(word) : 0;
  if (value < 1 || value > MAX_SAMPLES) {
    throw new CommandError("usage", `expected a number from 1 to ${MAX_SAMPLES}, found ${word}`);
  }
  return value;
}

function outputBytes(session) {
  const outputs = session.getOutputs();
  return session.outputs.map(({ name }) => {
    const { buffer, byteOffset, byteLength } = outputs[name];
    return new Uint8Array(buffer, byteOffset, byteLength);
  });
}

/** Commands answer with an object. Timing commands find the timed inputs in place: `run` puts them back. */
class Runner {
  constructor(session) {
    this.session = session;
    this.timedInputs = patternInputs(session);
    session.setInputs(this.timedInputs);
  }

  run([countWord, inputFile, outputFile]) {
    const count = parseCount(countWord);
    const chunks = [];
    try {
      for (const sample of readSamples(this.session, inputFile, count)) {
        this.session.setInputs(sample);
        this.session.runSteps();
        chunks.push(...outputBytes(this.session));
      }
    } finally {
      this.session.setInputs(this.timedInputs);
    }
    writeFileSync(outputFile, Buffer.concat(chunks));
    return { ran: count };
  }

  load([inputFile]) {
    [this.timedInputs] = readSamples(this.session, inputFile, 1);
    this.session.setInputs(this.timedInputs);
    return { loaded: true };
  }

  bench([countWord, batchWord = "1"]) {
    const samples = new Array(parseCount(countWord)).fill(0);
    const batch = parseCount(batchWord);
    const last = this.session.stepCount;
    for (let i = 0; i < samples.length; i++) {
      const start = now();
      for (let j = 0; j < batch; j++) {
        this.session.runSteps(0, last);
      }
      samples[i] = Number(now() - start) / batch;
    }
    return { samples_ns: samples };
  }

  profile([countWord]) {
    const profiles = Array.from({ length: parseCount(countWord) }, () => this.profileOnce());
    return { steps_ns: profiles };
  }

  profileOnce() {
    const steps = new Array(this.session.stepCount).fill(0);
    let start = now();
    for (let step = 0; step < steps.length; step++) {
      this.session.runSteps(step, step + 1);
      const end = now();
      steps[step] = Number(end - start);
      start = end;
    }
    return steps;
  }
}

const COMMANDS = { run: [3, 3], load: [1, 1], bench: [1, 2], profile: [1, 1] };

function splitWords(line) {
  return Array.from(line.matchAll(/"([^"]*)"?|[^\s"]\S*/g), (match) => match[1] ?? match[0]);
}

function answer(runner, [name, ...words]) {
  if (!Object.hasOwn(COMMANDS, name)) {
    throw new CommandError("usage", `unknown command ${name}: expected run, load, bench, profile or quit`);
  }
  const [least, most] = COMMANDS[name];
  if (words.length < least || words.length > most) {
    throw new CommandError("usage", `${name} takes ${least} to ${most} words, found ${words.length}`);
  }
  return runner[name](words);
}

function print(object) {
  process.stdout.write(`${JSON.stringify(object)}\n`);
}

function printError(error) {
  print({ error: error.message, code: typeof error.code === "string" ? error.code : "failed" });
}

async function serve(runner) {
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    const words = splitWords(line);
    if (words[0] === "quit") {
      return;
    }
    if (words.length > 0) {
      try {
        print(answer(runner, words));
      } catch (error) {
        printError(error);
      }
    }
  }
}

async function open(folder) {
  const start = now();
  if (folder === undefined) {
    throw new CommandError("usage", "usage: node runner.mjs BUNDLE_DIR");
  }
  const session = await Session.load(pathToFileURL(folder));
  const openMs = Number(now() - start) / 1e6;
  print({
    ready: true,
    open_ms: openMs,
    arena_bytes: session.manifest.arena_bytes,
    step_count: session.stepCount,
    timer_resolution_ns: timerResolution(),
  });
  return new Runner(session);
}

try {
  await serve(await open(process.argv[2]));
} catch (error) {
  printError(error);
  process.exitCode = 1;
}
process.stdin.destroy();
