/**
 * Runs a model that edgesparse compiled to WebAssembly, in browsers, workers and node >= 18.
 *
 *     import { Session } from "./index.mjs";
 *     const session = await Session.load();
 *     const { y } = await session.run({ x: new Float32Array(3 * 224 * 224) });
 */

const SCHEMA = 1;
const ALIGNMENT_BYTES = 64;
const PAGE_BYTES = 65536;
const MAGIC = "ESPARSE1";
const HEADER_BYTES = 64;

const ARRAY_TYPES = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bool: Uint8Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
};

/**
 * Small modules that use a feature.
 * Source: GoogleChromeLabs/wasm-feature-detect, detectors `simd` and `relaxed-simd`.
 */
const FEATURE_PROBES = {
  "+simd128": [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
    253, 98, 11,
  ],
  "+relaxed-simd": [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15,
    65, 2, 253, 15, 253, 128, 2, 11,
  ],
};

const FEATURE_HELP = {
  "+simd128": "this engine has no WebAssembly SIMD: use a browser of 2023 or later, or node >= 18",
  "+relaxed-simd":
    "this engine has no WebAssembly relaxed SIMD: compile the model with `--target wasm`, or on node 20 " +
    "pass `--experimental-wasm-relaxed-simd`",
};

/** Every failure; `code` is bundle, weights, simd, input, memory, closed or model. */
export class ModelError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "ModelError";
    this.code = code;
  }
}

/** A loaded model, with its weights, its arena and its tensors in its own memory. */
export class Session {
  #exports;
  #manifest;
  #stepCount;
  #pointers;
  #tensors;
  #arguments;

  /**
   * Loads a bundle.
   *
   * @param source URL or path of the bundle's folder (by default the folder of this module), or
   *     `{wasm, weights, manifest}` with their contents.
   */
  static async load(source) {
    const { wasm, weights, manifest } = await readBundle(source);
    checkManifest(manifest);
    requireFeatures(manifest.target.features);
    const bytes = toBytes(weights, "weights");
    checkWeights(bytes, manifest);
    const session = new Session(await instantiate(wasm), manifest, bytes);
    await session.#verifyWeights(bytes);
    return session;
  }

  /** Use `Session.load`. */
  constructor(exports, manifest, weights) {
    this.#exports = exports;
    this.#manifest = manifest;
    this.#stepCount = manifest.layers.reduce((last, layer) => Math.max(last, layer.steps[1]), 0);
    this.#pointers = layOut(exports, manifest, weights.byteLength);
    this.#fillMemory(weights);
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
    const status = this.#exports.es_run_steps(...this.#arguments, first, last);
    if (status !== 0) {
      throw new ModelError("model", `running the model: ${this.#statusText(status)}`);
    }
  }

  /** Returns a copy of every output: name -> typed array. */
  getOutputs() {
    this.#requireOpen();
    return Object.fromEntries(this.outputs.map((spec, i) => [spec.name, this.#tensors.outputs[i].slice()]));
  }

  /** Frees the memory; everything that runs afterwards is refused. */
  close() {
    this.#exports = null;
    this.#tensors = null;
    this.#arguments = null;
  }

  #requireOpen() {
    if (this.#exports === null) {
      throw new ModelError("closed", "the session is closed");
    }
  }

  #fillMemory(weights) {
    const { memory } = this.#exports;
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
    const digest = await sha256(weights.subarray(HEADER_BYTES));
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
    const bytes = new Uint8Array(this.#exports.memory.buffer, this.#exports.es_status_text(status));
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }
}

/** Gives everything an aligned address after the module's own data, and grows the memory to hold it. */
function layOut(exports, manifest, weightsBytes) {
  let top = exports.__heap_base.value;
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
  const pages = Math.ceil((top - exports.memory.buffer.byteLength) / PAGE_BYTES);
  try {
    exports.memory.grow(Math.max(0, pages));
  } catch (error) {
    throw new ModelError("memory", `the model needs ${top} bytes of memory: ${error.message}`);
  }
  return pointers;
}

async function readBundle(source) {
  if (source !== null && typeof source === "object" && !(source instanceof URL)) {
    const missing = ["wasm", "weights", "manifest"].filter((key) => source[key] === undefined);
    if (missing.length > 0) {
      throw new ModelError("bundle", `expected {wasm, weights, manifest}, ${missing.join(", ")} missing`);
    }
    return source;
  }
  const [manifest, wasm, weights] = await Promise.all((await bundleUrls(source)).map(readUrl));
  return { wasm, weights, manifest: parseManifest(manifest) };
}

/** URLs of manifest, module and weights. The literal ones are what bundlers look for. */
async function bundleUrls(source) {
  if (source === undefined) {
    return [
      new URL("./manifest.json", import.meta.url),
      new URL("./model.wasm", import.meta.url),
      new URL("./weights.bin", import.meta.url),
    ];
  }
  const folder = await folderUrl(source);
  if (!folder.pathname.endsWith("/")) {
    folder.pathname += "/";
  }
  return ["manifest.json", "model.wasm", "weights.bin"].map((name) => new URL(name, folder));
}

async function folderUrl(source) {
  if (isNode() && typeof source === "string" && !/^[a-z][a-z0-9+.-]+:/i.test(source)) {
    const { pathToFileURL } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:url");
    return pathToFileURL(source);
  }
  return new URL(source, globalThis.document?.baseURI ?? globalThis.location?.href);
}

function isNode() {
  return Boolean(globalThis.process?.versions?.node);
}

async function readUrl(url) {
  try {
    if (url.protocol === "file:" && isNode()) {
      const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:fs/promises");
      return new Uint8Array(await readFile(url));
    }
    const response = await fetch(url);
    if (!response.ok) {
      throw new Error(`HTTP status ${response.status}`);
    }
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw new ModelError("bundle", `reading ${url}: ${error.message}`);
  }
}

function parseManifest(bytes) {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new ModelError("bundle", `manifest.json is not JSON: ${error.message}`);
  }
}

function checkManifest(manifest) {
  if (manifest === null || typeof manifest !== "object" || !("edgesparse" in manifest)) {
    throw new ModelError("bundle", "the manifest is not edgesparse's");
  }
  if (manifest.schema !== SCHEMA) {
    throw new ModelError("bundle", `expected manifest schema ${SCHEMA}, found ${manifest.schema}`);
  }
  if (!manifest.target?.triple?.startsWith("wasm32")) {
    throw new ModelError("bundle", `the bundle is compiled for ${manifest.target?.triple}, not for WebAssembly`);
  }
  for (const spec of [...manifest.inputs, ...manifest.outputs]) {
    if (!(spec.dtype in ARRAY_TYPES)) {
      throw new ModelError("bundle", `tensor ${spec.name} has unknown dtype ${spec.dtype}`);
    }
  }
}

function requireFeatures(features) {
  for (const feature of features) {
    const probe = FEATURE_PROBES[feature];
    if (probe !== undefined && !WebAssembly.validate(new Uint8Array(probe))) {
      throw new ModelError("simd", FEATURE_HELP[feature]);
    }
  }
}

function checkWeights(bytes, manifest) {
  if (bytes.byteLength !== manifest.weights_bytes) {
    const found = `expected ${manifest.weights_bytes} bytes, found ${bytes.byteLength}`;
    throw new ModelError("weights", `opening the weights: ${found}`);
  }
  if (bytes.byteLength < HEADER_BYTES) {
    throw new ModelError("weights", "opening the weights: they are shorter than their header");
  }
  const header = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  if (String.fromCharCode(...bytes.subarray(0, MAGIC.length)) !== MAGIC || header.getUint32(8, true) !== 1) {
    throw new ModelError("weights", "opening the weights: they are not an edgesparse weights file");
  }
  if (hex(bytes.subarray(24, 56)) !== manifest.weights_sha256) {
    throw new ModelError("weights", "opening the weights: they belong to another model");
  }
}

async function instantiate(wasm) {
  try {
    const module = wasm instanceof WebAssembly.Module ? wasm : await WebAssembly.compile(toBytes(wasm, "wasm"));
    const { exports } = await WebAssembly.instantiate(module, {});
    if (typeof exports.es_run_steps !== "function") {
      throw new Error("it is not a model that edgesparse compiled");
    }
    return exports;
  } catch (error) {
    throw new ModelError("bundle", `loading model.wasm: ${error.message}`);
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

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function toBytes(source, what) {
  if (ArrayBuffer.isView(source)) {
    return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  }
  if (source instanceof ArrayBuffer) {
    return new Uint8Array(source);
  }
  throw new ModelError("bundle", `${what}: expected an ArrayBuffer or a view of one`);
}

function elementCount(spec) {
  return spec.shape.reduce((product, extent) => product * extent, 1);
}

function byteCount(spec) {
  return elementCount(spec) * ARRAY_TYPES[spec.dtype].BYTES_PER_ELEMENT;
}
