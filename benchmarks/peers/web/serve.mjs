// Serve a JavaScript engine in node behind the runner's line protocol:
//     node serve.mjs ENGINE NODE_MODULES MODEL SHAPES
// ENGINE.mjs exports openInNode(root, model, shapes) -> engine.
import fs from "node:fs";
import readline from "node:readline";

import { Served } from "./commands.mjs";

const [engineName, root, model, shapesText] = process.argv.slice(2);
const shapes = JSON.parse(shapesText);

// Engines print; stdout is the protocol's.
console.log = console.info = console.warn = console.error;
const print = (value) => fs.writeSync(1, JSON.stringify(value) + "\n");

const origin = process.hrtime.bigint();
const host = {
  now: () => Number(process.hrtime.bigint() - origin),
  read: (path) => fs.readFileSync(path),
  write: async (path, blob) => fs.writeFileSync(path, Buffer.from(await blob.arrayBuffer())),
};

const { openInNode } = await import(`./${engineName}.mjs`);
const started = host.now();
const engine = await openInNode(root, fs.readFileSync(model), shapes);
const served = new Served(engine, shapes, host, (host.now() - started) / 1e6);
print(served.ready);
for await (const line of readline.createInterface({ input: process.stdin })) {
  if (line.trim() === "quit") break;
  print(await served.answer(line));
}
process.exit(0);
