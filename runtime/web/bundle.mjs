/** Reads a bundle, and refuses what is not one or cannot run here. */

const SCHEMA = 1;
const MAGIC = "ESPARSE1";
export const WEIGHTS_HEADER_BYTES = 64;
export const THREADS_WASM = "model.threads.wasm";

export const ARRAY_TYPES = {
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

/** Every failure; `code` is bundle, weights, simd, input, memory, threads, closed or model. */
export class ModelError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "ModelError";
    this.code = code;
  }
}

/**
 * Returns `{wasm, weights, manifest}` of a bundle: of its folder, or what is in an object.
 *
 * @param isShared Whether `wasm` is to be the module for threads.
 */
export async function readBundle(source, isShared) {
  if (source !== null && typeof source === "object" && !(source instanceof URL)) {
    const wasmKey = isShared ? "threadsWasm" : "wasm";
    const missing = [wasmKey, "weights", "manifest"].filter((key) => source[key] === undefined);
    if (missing.length > 0) {
      throw new ModelError("bundle", `expected {wasm, weights, manifest}, ${missing.join(", ")} missing`);
    }
    return { wasm: source[wasmKey], weights: source.weights, manifest: source.manifest };
  }
  const [manifest, wasm, weights] = await Promise.all((await bundleUrls(source, isShared)).map(readUrl));
  return { wasm, weights, manifest: parseManifest(manifest) };
}

/** URLs of manifest, module and weights. The literal ones are what bundlers look for. */
async function bundleUrls(source, isShared) {
  if (source === undefined) {
    return [
      new URL("./manifest.json", import.meta.url),
      isShared ? new URL("./model.threads.wasm", import.meta.url) : new URL("./model.wasm", import.meta.url),
      new URL("./weights.bin", import.meta.url),
    ];
  }
  const folder = await folderUrl(source);
  if (!folder.pathname.endsWith("/")) {
    folder.pathname += "/";
  }
  const wasm = isShared ? THREADS_WASM : "model.wasm";
  return ["manifest.json", wasm, "weights.bin"].map((name) => new URL(name, folder));
}

async function folderUrl(source) {
  if (isNode() && typeof source === "string" && !/^[a-z][a-z0-9+.-]+:/i.test(source)) {
    const { pathToFileURL } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:url");
    return pathToFileURL(source);
  }
  return new URL(source, globalThis.document?.baseURI ?? globalThis.location?.href);
}

export function isNode() {
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

export function checkManifest(manifest) {
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

export function requireFeatures(features) {
  for (const feature of features) {
    const probe = FEATURE_PROBES[feature];
    if (probe !== undefined && !WebAssembly.validate(new Uint8Array(probe))) {
      throw new ModelError("simd", FEATURE_HELP[feature]);
    }
  }
}

export function checkWeights(bytes, manifest) {
  if (bytes.byteLength !== manifest.weights_bytes) {
    const found = `expected ${manifest.weights_bytes} bytes, found ${bytes.byteLength}`;
    throw new ModelError("weights", `opening the weights: ${found}`);
  }
  if (bytes.byteLength < WEIGHTS_HEADER_BYTES) {
    throw new ModelError("weights", "opening the weights: they are shorter than their header");
  }
  const header = new DataView(bytes.buffer, bytes.byteOffset, WEIGHTS_HEADER_BYTES);
  if (String.fromCharCode(...bytes.subarray(0, MAGIC.length)) !== MAGIC || header.getUint32(8, true) !== 1) {
    throw new ModelError("weights", "opening the weights: they are not an edgesparse weights file");
  }
  if (hex(bytes.subarray(24, 56)) !== manifest.weights_sha256) {
    throw new ModelError("weights", "opening the weights: they belong to another model");
  }
}

export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function toBytes(source, what) {
  if (ArrayBuffer.isView(source)) {
    return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  }
  if (source instanceof ArrayBuffer) {
    return new Uint8Array(source);
  }
  throw new ModelError("bundle", `${what}: expected an ArrayBuffer or a view of one`);
}

export function elementCount(spec) {
  return spec.shape.reduce((product, extent) => product * extent, 1);
}

export function byteCount(spec) {
  return elementCount(spec) * ARRAY_TYPES[spec.dtype].BYTES_PER_ELEMENT;
}
