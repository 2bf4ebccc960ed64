// onnxruntime-web: wasm, SIMD, one thread.

async function open(ort, wasmPaths, version, model, shapes) {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.proxy = false;
  ort.env.wasm.wasmPaths = wasmPaths;
  const session = await ort.InferenceSession.create(model, {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
  });
  return {
    version,
    prepare: (arrays) =>
      Object.fromEntries(
        shapes.inputs.map(({ name, shape }, i) => [name, new ort.Tensor("float32", arrays[i], shape)]),
      ),
    run: async (feeds) => {
      const outputs = await session.run(feeds);
      return shapes.outputs.map(({ name }) => outputs[name].data);
    },
    finish: (outputs) => outputs,
  };
}

export async function openInNode(root, model, shapes) {
  const { createRequire } = await import("node:module");
  const { pathToFileURL } = await import("node:url");
  const require = createRequire(`${root}/package.json`);
  const dist = pathToFileURL(`${root}/onnxruntime-web/dist`).href + "/";
  const { version } = require(`${root}/onnxruntime-web/package.json`);
  return open(require("onnxruntime-web/wasm"), dist, version, model, shapes);
}

export async function openInPage(root, model, shapes) {
  const folder = new URL(`${root}/onnxruntime-web/`, location.href).href;
  const ort = await import(`${folder}dist/ort.wasm.min.mjs`);
  const { version } = await (await fetch(`${folder}package.json`)).json();
  return open(ort, `${folder}dist/`, version, model, shapes);
}
