/**
 * The bench runner for node: the same protocol as the native `runner`.
 *
 *     node runner.mjs BUNDLE_DIR [THREADS]
 *
 * One command of runner-commands.mjs a line on stdin, or `quit`; one JSON object a line on stdout,
 * nothing else.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

import { Session } from "./index.mjs";
import {
  CommandError,
  Runner,
  errorAnswer,
  parseThreads,
  readyAnswer,
  requireThreads,
} from "./runner-commands.mjs";

const started = process.hrtime.bigint();

const host = {
  now: () => Number(process.hrtime.bigint() - started),
  read: (path) => readFileSync(path),
  write: (path, bytes) => writeFileSync(path, bytes),
};

function print(object) {
  process.stdout.write(`${JSON.stringify(object)}\n`);
}

async function open([folder, threadsWord]) {
  if (folder === undefined) {
    throw new CommandError("usage", "usage: node runner.mjs BUNDLE_DIR [THREADS]");
  }
  const threads = parseThreads(threadsWord);
  const start = host.now();
  const session = await Session.load(pathToFileURL(folder), { threads });
  const openMs = (host.now() - start) / 1e6;
  requireThreads(session, threads);
  print(readyAnswer(session, openMs, host.now));
  return new Runner(session, host);
}

async function serve(runner) {
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    if (line.trim() === "quit") {
      return;
    }
    const answer = await runner.answer(line);
    if (answer !== null) {
      print(answer);
    }
  }
}

try {
  await serve(await open(process.argv.slice(2)));
} catch (error) {
  print(errorAnswer(error));
  process.exitCode = 1;
}
process.stdin.destroy();
