// onnxruntime-web (wasm, SIMD, one thread) behind the runner's line protocol, so that the one bench
// loop of the harness can interleave it with a bundle: node ortweb.mjs MODEL.onnx
import fs from "node:fs";
import readline from "node:readline";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const ort = require("onnxruntime-web/wasm");
const folder = fileURLToPath(new URL("node_modules/onnxruntime-web/dist/", import.meta.url));
ort.env.wasm.numThreads = 1;
ort.env.wasm.proxy = false;
ort.env.wasm.wasmPaths = pathToFileURL(folder).href;

const answer = (value) => fs.writeSync(1, JSON.stringify(value) + "\n");
const nanoseconds = () => Number(process.hrtime.bigint());

function pseudoRandom(length) {
  const values = new Float32Array(length);
  let state = 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 2147483648 - 1;
  }
  return values;
}

const started = performance.now();
const session = await ort.InferenceSession.create(fs.readFileSync(process.argv[2]), {
  executionProviders: ["wasm"],
  graphOptimizationLevel: "all",
});
const feeds = {};
for (const { name, shape } of session.inputMetadata) {
  const size = shape.reduce((a, b) => a * b, 1);
  feeds[name] = new ort.Tensor("float32", pseudoRandom(size), shape);
}
answer({ ready: true, open_ms: performance.now() - started, timer_resolution_ns: 1000, step_count: 0 });

async function bench(count, batch) {
  const samples = [];
  for (let i = 0; i < count; i++) {
    const start = nanoseconds();
    for (let k = 0; k < batch; k++) await session.run(feeds);
    samples.push((nanoseconds() - start) / batch);
  }
  return { samples_ns: samples };
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const [command, ...words] = line.trim().split(/\s+/);
  if (command === "quit") break;
  else if (command === "bench") answer(await bench(Number(words[0]), Number(words[1] ?? 1)));
  else answer({ error: `unknown command ${command}` });
}
