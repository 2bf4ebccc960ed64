/**
 * Runs a model that edgesparse compiled to WebAssembly, in browsers, workers and node >= 18.
 *
 *     import { Session } from "./index.mjs";
 *     const session = await Session.load();
 *     const { y } = await session.run({ x: new Float32Array(3 * 224 * 224) });
 */

import {
  ARRAY_TYPES,
  ModelError,
  THREADS_WASM,
  WEIGHTS_HEADER_BYTES,
  byteCount,
  checkManifest,
  checkWeights,
  elementCount,
  hex,
  readBundle,
  requireFeatures,
  toBytes,
} from "./bundle.mjs";
import { CONTROL_WORDS, STACK_BYTES, TEAM_BYTES } from "./shared.mjs";
import { Team, sharedMemory, usableThreads } from "./threads.mjs";

export { ModelError };

const ALIGNMENT_BYTES = 64;
const PAGE_BYTES = 65536;

/** A loaded model, with its weights, its arena and its tensors in its own memory. */
export class Session {
  #exports;
  #memory;
  #team = null;
  #threads;
  #manifest;
  #stepCount;
  #pointers;
  #tensors;
  #arguments;

  /**
   * Loads a bundle.
   *
   * @param source URL or path of the bundle's folder (by default the folder of this module), or
   *     `{wasm, weights, manifest}` with their contents and maybe `threadsWasm`.
   * @param options `threads`: how many share the work, 1 by default; one, with a warning, where no
   *     memory can be shared.
   */
  static async load(source, { threads = 1 } = {}) {
    const count = usableThreads(threads, source);
    const { wasm, weights, manifest } = await readBundle(source, count > 1);
    checkManifest(manifest);
    requireFeatures(manifest.target.features);
    const bytes = toBytes(weights, "weights");
    checkWeights(bytes, manifest);
    const session = new Session(manifest, count);
    await session.#open(wasm, bytes);
    return session;
  }

  /** Use `Session.load`. */
  constructor(manifest, threads) {
    this.#manifest = manifest;
    this.#threads = threads;
    this.#stepCount = manifest.layers.reduce((last, layer) => Math.max(last, layer.steps[1]), 0);
  }

  async #open(wasm, weights) {
    const name = this.#threads > 1 ? THREADS_WASM : "model.wasm";
    const module = await loading(name, () => compileModule(wasm));
    try {
      await (this.#threads > 1 ? this.#openShared(module, weights) : this.#openAlone(module, weights));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  async #openAlone(module, weights) {
    this.#exports = await loading("model.wasm", () => instantiate(module));
    this.#memory = this.#exports.memory;
    this.#pointers = layOut(this.#exports.__heap_base.value, this.#manifest, weights.byteLength);
    growTo(this.#memory, this.#pointers.end);
    this.#fillMemory(weights);
    await this.#verifyWeights(weights);
  }

  /** The size of a shared memory is fixed before there is an instance to ask where its data end. */
  async #openShared(module, weights) {
    const dataEnd = STACK_BYTES + (this.#manifest.files[THREADS_WASM]?.bytes ?? 0) + PAGE_BYTES;
    const { end } = layOut(dataEnd, this.#manifest, weights.byteLength, this.#threads);
    this.#memory = allocateShared(end);
    this.#team = new Team(this.#memory);
    this.#exports = await loading(THREADS_WASM, () => this.#team.instantiate(module, this.#memory));
    const base = this.#exports.__heap_base.value;
    this.#pointers = layOut(base, this.#manifest, weights.byteLength, this.#threads);
    this.#fillMemory(weights);
    await this.#verifyWeights(weights);
    const { teamAt, controlAt, stacksAt } = this.#pointers;
    this.#exports.es_team_init(teamAt, this.#threads);
    const order = { module, memory: this.#memory, team: teamAt, model: this.#arguments };
    await this.#team.start(order, this.#threads, controlAt, stacksAt);
  }

  /** Name of the model. */
  get name() {
    return this.#manifest.name;
  }

  /** `{name, shape, dtype}` of every input, in order. */
  get inputs() {
    return this.#manifest.inputs;
  }

  /** `{name, shape, dtype}` of every output, in order. */
  get outputs() {
    return this.#manifest.outputs;
  }

  /** How every layer was compiled and why, in order; `steps` are its first and last (exclusive) step. */
  get decisions() {
    return this.#manifest.layers;
  }

  /** The parsed manifest.json. */
  get manifest() {
    return this.#manifest;
  }

  /** Number of steps of one run. */
  get stepCount() {
    return this.#stepCount;
  }

  /** How many threads share the work. */
  get threads() {
    return this.#threads;
  }

  /** What runs: `simd128` or `relaxed-simd`, and `threads` where there are several. */
  get backend() {
    const simd = this.#manifest.target.features.includes("+relaxed-simd") ? "relaxed-simd" : "simd128";
    return this.#threads > 1 ? `${simd}, threads` : simd;
  }

  /** Returns a zeroed typed array of the right type and length for every input: name -> typed array. */
  createInputs() {
    return Object.fromEntries(
      this.inputs.map((spec) => [spec.name, new ARRAY_TYPES[spec.dtype](elementCount(spec))]),
    );
  }

  /** Runs the model once: input name -> typed array in, output name -> new typed array out. */
  async run(inputs) {
    this.setInputs(inputs);
    this.runSteps();
    return this.getOutputs();
  }

  /** Copies every input into the model's memory, where it stays for any number of `runSteps`. */
  setInputs(inputs) {
    this.#requireOpen();
    if (inputs === null || typeof inputs !== "object") {
      throw new ModelError("input", "expected an object with one typed array for each input");
    }
    const names = this.inputs.map((spec) => spec.name);
    const unknown = Object.keys(inputs).filter((name) => !names.includes(name));
    if (unknown.length > 0) {
      throw new ModelError("input", `unknown input ${unknown.join(", ")}: expected ${names.join(", ")}`);
    }
    const arrays = this.inputs.map((spec) => checkInput(spec, inputs[spec.name]));
    arrays.forEach((array, i) => this.#tensors.inputs[i].set(array));
  }

  /** Runs steps first <= step < last, all by default, on the inputs that were set. Synchronous. */
  runSteps(first = 0, last = this.#stepCount) {
    this.#requireOpen();
    const isWithin = first >= 0 && first <= last && last <= this.#stepCount;
    const status = this.#team !== null && isWithin
      ? this.#runTogether(first, last)
      : this.#exports.es_run_steps(...this.#arguments, first, last);
    if (status !== 0) {
      throw new ModelError("model", `running the model: ${this.#statusText(status)}`);
    }
  }

  /** Returns a copy of every output: name -> typed array. */
  getOutputs() {
    this.#requireOpen();
    return Object.fromEntries(this.outputs.map((spec, i) => [spec.name, this.#tensors.outputs[i].slice()]));
  }

  /** Ends the workers and frees the memory; everything that runs afterwards is refused. */
  close() {
    this.#team?.close();
    this.#team = null;
    this.#memory = null;
    this.#exports = null;
    this.#tensors = null;
    this.#arguments = null;
  }

  /** Runs this thread's share and returns when all are done. A session that lost a worker is closed. */
  #runTogether(first, last) {
    try {
      this.#team.post(first, last);
      return this.#exports.es_run_thread(...this.#arguments, this.#pointers.teamAt, 0, first, last);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #requireOpen() {
    if (this.#exports === null) {
      throw new ModelError("closed", "the session is closed");
    }
  }

  #fillMemory(weights) {
    const memory = this.#memory;
    const { weightsAt, arenaAt, inputsAt, outputsAt, inputTableAt, outputTableAt } = this.#pointers;
    new Uint8Array(memory.buffer, weightsAt, weights.byteLength).set(weights);
    new Uint32Array(memory.buffer, inputTableAt, inputsAt.length).set(inputsAt);
    new Uint32Array(memory.buffer, outputTableAt, outputsAt.length).set(outputsAt);
    const views = (specs, at) =>
      specs.map((spec, i) => new ARRAY_TYPES[spec.dtype](memory.buffer, at[i], elementCount(spec)));
    this.#tensors = { inputs: views(this.inputs, inputsAt), outputs: views(this.outputs, outputsAt) };
    const model = this.#exports.es_default_model();
    this.#arguments = [model, weightsAt, arenaAt, inputTableAt, outputTableAt];
  }

  async #verifyWeights(weights) {
    const { es_default_model, es_check_weights, es_verify_weights } = this.#exports;
    const digest = await sha256(weights.subarray(WEIGHTS_HEADER_BYTES));
    const check = digest === null ? es_verify_weights : es_check_weights;
    const status = check(es_default_model(), this.#pointers.weightsAt, BigInt(weights.byteLength));
    if (status !== 0) {
      throw new ModelError("weights", `opening the weights: ${this.#statusText(status)}`);
    }
    if (digest !== null && digest !== this.#manifest.weights_sha256) {
      throw new ModelError("weights", "opening the weights: they are corrupt (SHA-256 differs)");
    }
  }

  #statusText(status) {
    const bytes = new Uint8Array(this.#memory.buffer, this.#exports.es_status_text(status));
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }
}

/** Gives everything an aligned address from `base` on. */
function layOut(base, manifest, weightsBytes, threads = 1) {
  let top = base;
  const reserve = (bytes) => {
    const at = Math.ceil(top / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    top = at + bytes;
    return at;
  };
  const pointers = {
    inputTableAt: reserve(4 * manifest.inputs.length),
    outputTableAt: reserve(4 * manifest.outputs.length),
    inputsAt: manifest.inputs.map((spec) => reserve(byteCount(spec))),
    outputsAt: manifest.outputs.map((spec) => reserve(byteCount(spec))),
    weightsAt: reserve(weightsBytes),
    arenaAt: reserve(manifest.arena_bytes),
  };
  if (threads > 1) {
    pointers.teamAt = reserve(TEAM_BYTES);
    pointers.controlAt = reserve(4 * CONTROL_WORDS);
    pointers.stacksAt = reserve(STACK_BYTES * (threads - 1));
  }
  return { ...pointers, end: top };
}

function growTo(memory, bytes) {
  try {
    memory.grow(Math.max(0, Math.ceil((bytes - memory.buffer.byteLength) / PAGE_BYTES)));
  } catch (error) {
    throw new ModelError("memory", `the model needs ${bytes} bytes of memory: ${error.message}`);
  }
}

function allocateShared(bytes) {
  try {
    return sharedMemory(Math.ceil(bytes / PAGE_BYTES));
  } catch (error) {
    throw new ModelError("memory", `the model needs ${bytes} bytes of shared memory: ${error.message}`);
  }
}

async function compileModule(wasm) {
  return wasm instanceof WebAssembly.Module ? wasm : WebAssembly.compile(toBytes(wasm, "wasm"));
}

async function instantiate(module) {
  return (await WebAssembly.instantiate(module, {})).exports;
}

/** Returns the exports or the module that `load` gives, or says why a file is no model of ours. */
async function loading(name, load) {
  try {
    const loaded = await load();
    if (!(loaded instanceof WebAssembly.Module) && typeof loaded.es_run_steps !== "function") {
      throw new Error("it is not a model that edgesparse compiled");
    }
    return loaded;
  } catch (error) {
    throw new ModelError("bundle", `loading ${name}: ${error.message}`);
  }
}

function checkInput(spec, array) {
  const ArrayType = ARRAY_TYPES[spec.dtype];
  const expected = `input ${spec.name}: expected a ${ArrayType.name} of ${elementCount(spec)} elements`;
  if (!(array instanceof ArrayType)) {
    throw new ModelError("input", `${expected}, found ${array?.constructor?.name ?? String(array)}`);
  }
  if (array.length !== elementCount(spec)) {
    throw new ModelError("input", `${expected} (shape ${spec.shape.join("x")}), found ${array.length}`);
  }
  return array;
}

/** Hexadecimal SHA-256, or null where the page is not a secure context and has no `crypto.subtle`. */
async function sha256(bytes) {
  const subtle = globalThis.crypto?.subtle;
  return subtle ? hex(new Uint8Array(await subtle.digest("SHA-256", bytes))) : null;
}
