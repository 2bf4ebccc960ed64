// Serve a JavaScript engine in a page behind the runner's line protocol, for harness/browser.py.
// ENGINE.mjs exports openInPage(root, model, shapes) -> engine.
import { Served } from "./commands.mjs";

async function fetched(url, options) {
  const response = await fetch(url, options);
  if (!response.ok) throw new Error(`${url}: HTTP status ${response.status}`);
  return response;
}

const bytesOf = async (url) => new Uint8Array(await (await fetched(url)).arrayBuffer());

export async function open(engineName, root, model, shapes, files) {
  const host = {
    now: () => performance.now() * 1e6,
    read: (path) => bytesOf(files + path),
    write: (path, body) => fetched(files + path, { method: "PUT", body }),
  };
  const { openInPage } = await import(`./${engineName}.mjs`);
  const started = host.now();
  const engine = await openInPage(root, await bytesOf(model), shapes);
  return new Served(engine, shapes, host, (host.now() - started) / 1e6);
}
