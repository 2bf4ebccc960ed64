/**
 * The bench runner in a page, for a driver that evaluates in it and serves files beside it:
 *
 *     const runner = await open("/bundle/", 1, "/files/");   // runner.ready is the first answer
 *     await runner.answer("bench 10");
 */
import { Session } from "./index.mjs";
import { Runner, errorAnswer, readyAnswer, requireThreads } from "./runner-commands.mjs";

/** Reads and writes files under a URL, with GET and PUT. */
function hostAt(filesUrl) {
  const url = (path) => new URL(encodeURIComponent(path), new URL(filesUrl, location.href));
  const request = async (path, options) => {
    const response = await fetch(url(path), options);
    if (!response.ok) {
      throw new Error(`${path}: HTTP status ${response.status}`);
    }
    return response;
  };
  return {
    now: () => performance.now() * 1e6,
    read: async (path) => new Uint8Array(await (await request(path)).arrayBuffer()),
    write: async (path, body) => void (await request(path, { method: "PUT", body })),
  };
}

/** Opens a bundle; a failure is an answer, too. */
export async function open(bundleUrl, threads, filesUrl) {
  const host = hostAt(filesUrl);
  try {
    const start = host.now();
    const session = await Session.load(bundleUrl, { threads });
    const openMs = (host.now() - start) / 1e6;
    requireThreads(session, threads);
    const runner = new Runner(session, host);
    return { ready: readyAnswer(session, openMs, host.now), answer: (line) => runner.answer(line) };
  } catch (error) {
    return { ready: errorAnswer(error) };
  }
}
