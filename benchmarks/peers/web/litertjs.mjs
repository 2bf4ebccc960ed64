// LiteRT.js: TensorFlow Lite with XNNPACK in wasm, one thread. It picks its build by what it finds: in
// node that is relaxed SIMD with node's flag for it, in Chromium always.

// It loads its module as a web worker would. In node: scripts are read from disk, bytes handed over.
async function pretendToBeAWorker(folder) {
  const fs = await import("node:fs");
  const path = await import("node:path");
  const vm = await import("node:vm");
  const { createRequire } = await import("node:module");
  const { pathToFileURL } = await import("node:url");
  const wasm = path.join(folder, "wasm") + path.sep;
  globalThis.self = globalThis;
  globalThis.require = createRequire(wasm);
  globalThis.__dirname = wasm;
  globalThis.__filename = path.join(wasm, "worker.js");
  globalThis.location ??= { href: pathToFileURL(wasm).href, pathname: wasm, origin: "null" };
  const scripts = [];
  globalThis.importScripts = (address) => {
    const script = String(address);
    scripts.push(script);
    globalThis.Module = { wasmBinary: fs.readFileSync(script.replace(/\.js$/, ".wasm")) };
    const text = fs.readFileSync(script, "utf8") + "\n;globalThis.ModuleFactory = ModuleFactory;";
    vm.runInThisContext(text, { filename: script });
  };
  return scripts;
}

// [1, C, H, W] -> [1, H, W, C]
function channelsLast(array, [, channels, height, width]) {
  const pixels = height * width;
  const moved = new Float32Array(array.length);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < pixels; i++) moved[i * channels + c] = array[c * pixels + i];
  }
  return moved;
}

// [1, H, W, C] -> [1, C, H, W]; an array without pixels stays as it is.
function channelsFirst(array, [, channels, height = 1, width = 1]) {
  return channelsLast(array, [1, height * width, channels, 1]);
}

// `scripts` are the addresses that it loaded; the compat build is the one without relaxed SIMD.
async function open(module, folder, version, scripts, model, shapes) {
  const { loadLiteRt, loadAndCompile, Tensor } = await import(module);
  await loadLiteRt(`${folder}/wasm/`);
  const options = { accelerator: "wasm", cpuOptions: { numThreads: 1 } };
  const compiled = await loadAndCompile(new Uint8Array(model), options);
  const [{ shape }] = shapes.inputs;
  const variant = scripts().some((script) => script.includes("compat")) ? "simd128" : "relaxed";
  return {
    version: `${version} (${variant})`,
    prepare: ([array]) =>
      new Tensor(channelsLast(array, shape), [shape[0], shape[2], shape[3], shape[1]]),
    run: async (input) => {
      const [output] = await compiled.run(input);
      const values = (output.toTypedArray?.() ?? (await output.data())).slice();
      output.delete?.();
      return [values];
    },
    finish: ([values]) => [channelsFirst(values, shapes.outputs[0].shape)],
  };
}

export async function openInNode(root, model, shapes) {
  const fs = await import("node:fs");
  const { pathToFileURL } = await import("node:url");
  const folder = `${root}/@litertjs/core`;
  const scripts = await pretendToBeAWorker(folder);
  const { version } = JSON.parse(fs.readFileSync(`${folder}/package.json`, "utf8"));
  const module = pathToFileURL(`${folder}/dist/index.js`);
  return open(module, folder, version, () => scripts, model, shapes);
}

export async function openInPage(root, model, shapes) {
  const folder = new URL(`${root}/@litertjs/core`, location.href).href;
  const { version } = await (await fetch(`${folder}/package.json`)).json();
  const scripts = () => performance.getEntriesByType("resource").map(({ name }) => name);
  return open(`${folder}/dist/index.js`, folder, version, scripts, model, shapes);
}
