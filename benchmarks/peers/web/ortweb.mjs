// onnxruntime-web: wasm, SIMD, one thread.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

export async function open(root, model, shapes) {
  const folder = path.join(root, "onnxruntime-web");
  const ort = createRequire(path.join(root, "package.json"))("onnxruntime-web/wasm");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.proxy = false;
  ort.env.wasm.wasmPaths = pathToFileURL(path.join(folder, "dist")).href + "/";
  const session = await ort.InferenceSession.create(fs.readFileSync(model), {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
  });
  return {
    version: JSON.parse(fs.readFileSync(path.join(folder, "package.json"), "utf8")).version,
    prepare: (arrays) =>
      Object.fromEntries(
        shapes.inputs.map(({ name, shape }, i) => [name, new ort.Tensor("float32", arrays[i], shape)]),
      ),
    run: async (feeds) => {
      const outputs = await session.run(feeds);
      return shapes.outputs.map(({ name }) => outputs[name].data);
    },
  };
}
