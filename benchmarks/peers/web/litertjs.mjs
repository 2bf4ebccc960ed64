// LiteRT.js: TensorFlow Lite with XNNPACK in wasm, one thread. With the node flag for relaxed SIMD it
// picks its relaxed build, without it the plain one, by its own detection.
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// It loads its module as a web worker would. In node: scripts are read from disk, bytes handed over.
function pretendToBeAWorker(folder) {
  const wasm = path.join(folder, "wasm") + path.sep;
  globalThis.self = globalThis;
  globalThis.require = createRequire(wasm);
  globalThis.__dirname = wasm;
  globalThis.__filename = path.join(wasm, "worker.js");
  globalThis.location ??= { href: pathToFileURL(wasm).href, pathname: wasm, origin: "null" };
  const chosen = {};
  globalThis.importScripts = (address) => {
    const script = String(address);
    chosen.variant = script.includes("compat") ? "simd128" : "relaxed";
    globalThis.Module = { wasmBinary: fs.readFileSync(script.replace(/\.js$/, ".wasm")) };
    const text = fs.readFileSync(script, "utf8") + "\n;globalThis.ModuleFactory = ModuleFactory;";
    vm.runInThisContext(text, { filename: script });
  };
  return chosen;
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

export async function open(root, model, shapes) {
  const folder = path.join(root, "@litertjs/core");
  const chosen = pretendToBeAWorker(folder);
  const { loadLiteRt, loadAndCompile, Tensor } = await import(
    pathToFileURL(path.join(folder, "dist/index.js"))
  );
  await loadLiteRt(path.join(folder, "wasm") + "/");
  const compiled = await loadAndCompile(new Uint8Array(fs.readFileSync(model)), {
    accelerator: "wasm",
    cpuOptions: { numThreads: 1 },
  });
  const [{ shape }] = shapes.inputs;
  const release = JSON.parse(fs.readFileSync(path.join(folder, "package.json"), "utf8")).version;
  return {
    version: `${release} (${chosen.variant})`,
    prepare: ([array]) =>
      new Tensor(channelsLast(array, shape), [shape[0], shape[2], shape[3], shape[1]]),
    run: async (input) => {
      const [output] = await compiled.run(input);
      const values = (output.toTypedArray?.() ?? (await output.data())).slice();
      output.delete?.();
      return [values];
    },
  };
}
