// peak.wasm behind the runner's line protocol: node peak.mjs PEAK.wasm ITERATIONS
import fs from "node:fs";
import readline from "node:readline";

const [path, iterations] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(fs.readFileSync(path));
const { peak } = instance.exports;
const answer = (value) => fs.writeSync(1, JSON.stringify(value) + "\n");

answer({ ready: true, open_ms: 0, timer_resolution_ns: 100, step_count: 0 });
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [command, count, batch = 1] = line.trim().split(/\s+/);
  if (command === "quit") break;
  const samples = [];
  for (let i = 0; i < Number(count); i++) {
    const start = process.hrtime.bigint();
    for (let k = 0; k < batch; k++) peak(Number(iterations));
    samples.push(Number(process.hrtime.bigint() - start) / batch);
  }
  answer({ samples_ns: samples });
}
