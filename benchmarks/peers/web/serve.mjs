// Serve a JavaScript engine behind the runner's line protocol:
//     node serve.mjs ENGINE NODE_MODULES MODEL SHAPES
// ENGINE.mjs exports open(root, model, shapes) -> { version, prepare(arrays), run(inputs) }; run
// answers with one Float32Array an output.
import fs from "node:fs";
import readline from "node:readline";

const [engineName, root, model, shapesText] = process.argv.slice(2);
const shapes = JSON.parse(shapesText);

// Engines print; stdout is the protocol's.
console.log = console.info = console.warn = console.error;
const answer = (value) => fs.writeSync(1, JSON.stringify(value) + "\n");
const sizeOf = ({ shape }) => shape.reduce((a, b) => a * b, 1);

function pseudoRandom(length) {
  const values = new Float32Array(length);
  let state = 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 2147483648 - 1;
  }
  return values;
}

function timerResolution() {
  let smallest = Infinity;
  for (let i = 0; i < 200; i++) {
    const start = process.hrtime.bigint();
    let end = start;
    while (end === start) end = process.hrtime.bigint();
    smallest = Math.min(smallest, Number(end - start));
  }
  return smallest;
}

const started = performance.now();
const { open } = await import(`./${engineName}.mjs`);
const engine = await open(root, model, shapes);
const openMs = performance.now() - started;
const timed = engine.prepare(shapes.inputs.map((tensor) => pseudoRandom(sizeOf(tensor))));

async function bench(count, batch = 1) {
  const samples = [];
  for (let i = 0; i < count; i++) {
    const start = process.hrtime.bigint();
    for (let k = 0; k < batch; k++) await engine.run(timed);
    samples.push(Number(process.hrtime.bigint() - start) / batch);
  }
  return { samples_ns: samples };
}

async function run(count, source, sink) {
  const { buffer, byteOffset } = fs.readFileSync(source);
  const chunks = [];
  let offset = byteOffset;
  for (let i = 0; i < count; i++) {
    const arrays = shapes.inputs.map((tensor) => {
      const size = sizeOf(tensor);
      const array = new Float32Array(buffer.slice(offset, offset + 4 * size));
      offset += 4 * size;
      return array;
    });
    for (const { buffer: data, byteOffset: at, byteLength } of await engine.run(engine.prepare(arrays))) {
      chunks.push(Buffer.from(data.slice(at, at + byteLength)));
    }
  }
  fs.writeFileSync(sink, Buffer.concat(chunks));
  return { ran: count };
}

answer({
  ready: true,
  open_ms: openMs,
  timer_resolution_ns: timerResolution(),
  step_count: 0,
  version: engine.version,
});
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [command, ...words] = line.trim().split(/\s+/);
  if (command === "quit") break;
  try {
    if (command === "bench") answer(await bench(Number(words[0]), Number(words[1] ?? 1)));
    else if (command === "run") answer(await run(Number(words[0]), words[1], words[2]));
    else answer({ error: `unknown command ${command}` });
  } catch (error) {
    answer({ error: String(error) });
  }
}
process.exit(0);
