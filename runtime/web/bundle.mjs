/** Finds a bundle's files, chooses the build that this engine can run, and reads it. */
import { files } from "./files.mjs";
import { usableThreads } from "./threads.mjs";
import { ModelError, PAGE_BYTES, STACK_BYTES, attempt, fromNode, isNode, note } from "./shared.mjs";

const SCHEMA = 1;
const WEIGHTS = "weights.bin";

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
 * The code of a function that uses a feature.
 * Source: GoogleChromeLabs/wasm-feature-detect, detectors `simd` and `relaxed-simd`.
 */
const FEATURE_PROBES = {
  "+simd128": [10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11],
  "+relaxed-simd": [10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11],
};

const FEATURE_HELP = {
  "+simd128": "SIMD: use a browser of 2023 or later, or node >= 18",
  "+relaxed-simd":
    "relaxed SIMD: compile the model with `--target wasm`, or run node 20 with `--experimental-wasm-relaxed-simd`",
};

function isMissing(feature) {
  const probe = FEATURE_PROBES[feature];
  const head = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0];
  return probe && !WebAssembly.validate(Uint8Array.of(...head, ...probe));
}

/**
 * Returns `{manifest, module, simd, threads, notes, fill, dataEnd}` of a bundle: of its folder, or what is in an
 * object. `fill(view, verify)` writes the weights there and has them verified.
 */
export async function openBundle(source, options) {
  const isFolder = source === undefined || typeof source === "string" || source?.href;
  const notes = [];
  const opened = await (isFolder ? openFolder : openContents)(source, { ...options, notes });
  const section = (name) => WebAssembly.Module.customSections(opened.module, name)[0];
  const own = section("edgesparse");
  refuse(!own, "loading the module: it is not a model that edgesparse compiled");
  const isForOne = !WebAssembly.Module.imports(opened.module)[0];
  refuse(isForOne === opened.threads > 1, "loading the module: it is for another number of threads");
  const about = await parse(own, "the module's description");
  const manifest = checkManifest(opened.manifest ?? about);
  const isOther = manifest.weights_sha256 !== about.weights_sha256;
  refuse(isOther, "the manifest belongs to another model than the module");
  opened.fill ??= fillFrom(section(WEIGHTS));
  // What an instance's data take; a shared memory must be made before there is one.
  const dataEnd = STACK_BYTES + about.module_bytes + PAGE_BYTES;
  return { ...opened, manifest, simd: about.simd, notes, dataEnd };
}

async function openContents(source, { threads, onProgress, notes }) {
  const { wasm, threadsWasm, weights, manifest } = source ?? {};
  chooseBuild([{ features: manifest?.target?.features ?? ["+simd128"] }]);
  const count = usableThreads(threads, threadsWasm, "threadsWasm was not given", notes);
  const module = await compileModule("wasm", count > 1 ? threadsWasm : wasm);
  if (manifest) {
    checkManifest(manifest);
  }
  const fill = weights && fillFrom(weights, onProgress);
  return { manifest, module, threads: count, fill };
}

async function openFolder(source, { threads, simd, onProgress, signal, notes }) {
  const folder = source && (await attempt("bundle", `reading ${source}`, signal, () => folderUrl(source)));
  const locate = (name) => (folder ? new URL(name, folder) : files[name]);
  const request = (name) => requestUrl(locate(name), signal);
  const json = await (await request("manifest.json")).arrayBuffer();
  const manifest = checkManifest(await parse(json, "manifest.json"));
  const build = chooseBuild(manifest.builds, simd, notes);
  const count = usableThreads(threads, build.threads, "the bundle has no module for threads", notes);
  const name = count > 1 ? build.threads : build.module;
  const isApart = WEIGHTS in manifest.files;
  const wasmBytes = manifest.files[name].bytes;
  const total = wasmBytes + (isApart ? manifest.weights_bytes : 0);
  const tell = (at) => onProgress?.({ loaded: wasmBytes + at, total });
  // The weights are asked for at once, and read when there is a memory to read them into.
  const { href } = locate(WEIGHTS) ?? {};
  const key = /^http/.test(href) && `${href}?${manifest.weights_sha256}`;
  const fill = isApart ? fillFromUrl(key, () => request(WEIGHTS), tell, signal) : undefined;
  const module = await compileModule(name, await request(name), signal);
  tell(0);
  return { manifest, module, threads: count, fill };
}

/** The first build whose features are all there. */
function chooseBuild(builds = [], simd, notes) {
  const wanted = simd ? builds.filter((build) => build.simd === simd) : builds;
  if (wanted.length === 0) {
    const names = builds.map((build) => build.simd);
    throw new ModelError("input", `simd: expected ${names.join(" or ")}, found ${simd}`);
  }
  const found = wanted.find(({ features }) => !features.some(isMissing));
  if (!found) {
    const help = FEATURE_HELP[wanted.at(-1).features.find(isMissing)];
    throw new ModelError("simd", `this engine has no WebAssembly ${help}`);
  }
  if (found !== wanted[0]) {
    note(notes, `${found.simd} instead of ${wanted[0].simd}, which this engine lacks`);
  }
  return found;
}

async function folderUrl(source) {
  const isPath = isNode() && !/^[a-z][a-z0-9+.-]+:/i.test(source);
  const url = isPath
    ? (await fromNode("url")).pathToFileURL(source)
    : new URL(source, globalThis.document?.baseURI ?? globalThis.location?.href);
  url.pathname += url.pathname.endsWith("/") ? "" : "/";
  return new URL(".", url); // which data: and the like have not
}

/** What is read of a response; node takes 28 ms to load its own. */
function inOnePiece(bytes) {
  const pieces = [{ value: bytes }, { done: true }];
  return { arrayBuffer: () => bytes, body: { getReader: () => ({ read: () => pieces.shift() }) } };
}

/** Returns a response that is fine, of a file, too. */
function requestUrl(url, signal) {
  return attempt("bundle", `reading ${url}`, signal, async () => {
    if (url.protocol === "file:" && isNode()) {
      const { readFile } = await fromNode("fs/promises");
      return inOnePiece(await readFile(url, { signal }));
    }
    const response = await fetch(url, { signal });
    if (!response.ok) {
      throw new Error(`HTTP status ${response.status}`);
    }
    return response;
  });
}

function compileModule(name, source, signal) {
  return attempt("bundle", `loading ${name}`, signal, async () => {
    if (source instanceof WebAssembly.Module) {
      return source;
    }
    if (!source?.arrayBuffer) {
      return WebAssembly.compile(toBytes(source, name));
    }
    return source.headers?.get("content-type") === "application/wasm"
      ? WebAssembly.compileStreaming(source)
      : WebAssembly.compile(await source.arrayBuffer());
  });
}

function parse(bytes, what) {
  return attempt("bundle", `${what} is not JSON`, null, () => JSON.parse(new TextDecoder().decode(bytes)));
}

function refuse(isWrong, why) {
  if (isWrong) {
    throw new ModelError("bundle", why);
  }
}

function checkManifest(manifest) {
  const { edgesparse, schema, target, inputs, outputs } = manifest ?? {};
  refuse(!edgesparse, "the manifest is not edgesparse's");
  refuse(schema !== SCHEMA, `the manifest has schema ${schema}, expected ${SCHEMA}`);
  const { triple } = target ?? {};
  refuse(!triple?.startsWith("wasm32"), `the manifest is of a bundle for ${triple}, not for WebAssembly`);
  for (const { name, dtype } of [...inputs, ...outputs]) {
    refuse(!ARRAY_TYPES[dtype], `the manifest has a tensor ${name} of unknown dtype ${dtype}`);
  }
  return manifest;
}

/* ---- weights ---- */

function wrongLength(expected, found) {
  return new ModelError("weights", `opening the weights: expected ${expected} bytes, found ${found}`);
}

function fillFrom(source, onProgress) {
  const bytes = source && toBytes(source, "weights");
  return async (view, verify) => {
    refuse(!bytes, "expected {wasm, weights}, weights missing");
    if (bytes.length !== view.length) {
      throw wrongLength(view.length, bytes.length);
    }
    view.set(bytes);
    verify();
    onProgress?.({ loaded: bytes.length, total: bytes.length });
  };
}

async function findWeights(key, request) {
  let cache;
  let kept;
  try {
    cache = key ? await globalThis.caches?.open("edgesparse") : null;
    kept = await cache?.match(key);
  } catch {
    // a page that may keep nothing, or whose cache is damaged
  }
  return { cache, kept, fresh: kept ? null : await request() };
}

/** @param key Where verified weights are kept, a URL that no other model's have; none, and they are not. */
function fillFromUrl(key, request, tell, signal) {
  const found = findWeights(key, request);
  found.catch(() => {}); // what is wrong is told when it is waited for
  return async (view, verify) => {
    const read = (response) =>
      attempt("bundle", "reading the weights", signal, async () => {
        await pour(response, view, tell, signal);
        verify();
      });
    const { cache, kept, fresh } = await found;
    if (kept) {
      try {
        return await read(kept);
      } catch {
        signal?.throwIfAborted(); // what was kept is damaged
      }
    }
    await read(fresh ?? (await request()));
    if (cache) {
      keep(cache, key, view.slice()).catch(() => {}); // no room: next time they are loaded again
    }
  };
}

/** Keeps verified weights, and those of older versions of the model no longer. */
async function keep(cache, key, bytes) {
  await cache.delete(key, { ignoreSearch: true });
  await cache.put(key, new Response(bytes));
}

/** Writes a response's body into a view of the same length. */
async function pour({ body }, view, tell, signal) {
  const reader = body.getReader();
  let at = 0;
  try {
    for (;;) {
      const { done, value = [] } = await reader.read();
      const end = at + value.length;
      if (end > view.length || (done && end < view.length)) {
        throw wrongLength(view.length, done ? end : `${end} or more`);
      }
      if (done) {
        return;
      }
      view.set(value, at);
      at = end;
      tell(at);
      signal?.throwIfAborted();
    }
  } finally {
    reader.cancel?.().catch(() => {});
  }
}

export function toBytes(source, what) {
  // Not instanceof: a buffer of another realm (an iframe's, a test runner's) is as good.
  if (source?.byteLength >= 0) {
    return new Uint8Array(source.buffer ?? source, source.byteOffset, source.byteLength);
  }
  throw new ModelError("input", `${what}: expected an ArrayBuffer or a view of one, found ${source}`);
}
