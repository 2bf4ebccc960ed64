/** The page: loads the models that models.mjs names, runs them, and shows what they are made of. */
import { drawCurve, race } from "./compare.mjs";
import { DigitPad, isDigitModel } from "./digits.mjs";
import { Session, curve, models } from "./models.mjs";
import { IMAGENET, acceptPictures, fillCanvas, inkOf, takesPictures } from "./pictures.mjs";
import { profile, sample, warmUp } from "./timing.mjs";
import {
  button,
  byId,
  element,
  formatBytes,
  formatMs,
  formatPercent,
  formatSpec,
  meter,
  zerosOf,
} from "./view.mjs";

const TURNS = 40;
const CURVE_TURNS = 9;
const SHOWN_CLASSES = 10;

/** `?threads=2&simd=simd128` asks for another build. */
function loadOptions() {
  const query = new URLSearchParams(location.search);
  return { threads: Number(query.get("threads") ?? 1), simd: query.get("simd") ?? undefined };
}

/* ---- the model ---- */

function showModel({ name, inputs, outputs, manifest }) {
  document.title = `${name} · edgesparse`;
  byId("name").textContent = name;
  const code = Object.entries(manifest.files).find(([file]) => file === manifest.builds[0].module);
  const facts = [
    ...inputs.map((spec) => `in: ${formatSpec(spec)}`),
    ...outputs.map((spec) => `out: ${formatSpec(spec)}`),
    `weights ${formatBytes(manifest.weights_bytes)}`,
    `code ${formatBytes(code[1].bytes)}`,
    `arena ${formatBytes(manifest.arena_bytes)}`,
  ];
  byId("facts").replaceChildren(...facts.map((fact) => element("li", fact)));
}

function showBackend({ backend, threads, notes, manifest }) {
  byId("backend").textContent = backend;
  const built = manifest.builds.map(({ simd }) => simd).join(" and ");
  const isolated = globalThis.crossOriginIsolated;
  const reasons = [
    `This bundle holds ${built}, each for one thread and for several; the best that this engine can run was taken.`,
    ...notes.map((text) => `${text[0].toUpperCase()}${text.slice(1)}.`),
    isolated
      ? `This page is isolated, so threads can share memory: add ?threads=2 to use two (now ${threads}).`
      : "This page is not isolated (COOP and COEP), so it has one thread and a coarser clock.",
  ];
  byId("why").replaceChildren(...reasons.map((reason) => element("li", reason)));
}

/* ---- layers ---- */

function layerHead({ name, op }) {
  const head = element("th", op);
  head.scope = "row";
  head.append(element("small", name));
  return head;
}

function zerosCell({ decision }) {
  const cell = element("td");
  if (typeof decision.zeros === "number") {
    const pair = element("div", "", "zeros");
    pair.append(element("span", formatPercent(decision.zeros)), meter(decision.zeros));
    cell.append(pair);
  }
  return cell;
}

/** Fills the table; returns the cells that take the times. */
function showLayers(layers) {
  const timeCells = layers.map(() => element("td", "–"));
  const rows = layers.map((layer, i) => {
    const row = document.createElement("tr");
    row.append(
      layerHead(layer),
      element("td", layer.output_shape.join("×")),
      zerosCell(layer),
      element("td", layer.decision.format ?? "–"),
      timeCells[i],
      element("td", layer.decision.reason),
    );
    return row;
  });
  byId("layers").replaceChildren(...rows);
  return timeCells;
}

function showTimes(cells, times) {
  const slowest = Math.max(...times, Number.MIN_VALUE);
  cells.forEach((cell, i) => {
    const pair = element("div", "", "time");
    pair.append(element("span", formatMs(times[i])), meter(times[i] / slowest));
    cell.replaceChildren(pair);
  });
}

/* ---- time ---- */

async function measureAll(contestants, timeCells) {
  byId("measure").disabled = true;
  byId("status").textContent = "Measuring …";
  await race(contestants, TURNS);
  showTimes(timeCells, await profile(contestants[0].session));
  await measureCurve();
  byId("status").textContent = "";
  byId("measure").disabled = false;
}

/** All in turns, so that what else the machine does falls on all of them. */
async function measureCurve() {
  const runners = [];
  for (const { folder } of curve) {
    const session = await Session.load(folder, loadOptions());
    fillWithNoise(session);
    runners.push({ session, batch: await warmUp(session), zeros: zerosOf(session), samples: [] });
  }
  byId("curve-box").hidden = runners.length === 0;
  for (let turn = 0; turn < CURVE_TURNS; turn++) {
    for (const { session, batch, samples } of runners) {
      samples.push(await sample(session, batch));
    }
    drawCurve(runners.map(({ zeros, samples }) => ({ zeros, ms: Math.min(...samples) })));
  }
  runners.forEach(({ session }) => session.close());
}

/* ---- classes ---- */

function softmax(logits) {
  const top = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - top));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** Returns probabilities; an output that sums to one is taken as such. */
function probabilities(scores) {
  const sum = scores.reduce((total, score) => total + score, 0);
  return scores.every((score) => score >= 0) && Math.abs(sum - 1) < 1e-3 ? scores : softmax(scores);
}

/** Shows the best class, and the parts of all where they are few, of the best where they are many. */
function showGuess(parts, count) {
  const ranked = parts === null ? [] : [...parts.keys()].sort((a, b) => parts[b] - parts[a]);
  const shown = count <= SHOWN_CLASSES ? [...Array(count).keys()] : ranked.slice(0, 5);
  byId("digit").textContent = ranked.length ? String(ranked[0]) : "–";
  byId("confidence").textContent = ranked.length ? `${formatPercent(parts[ranked[0]])} sure` : "nothing yet";
  const rows = shown.map((index) => {
    const part = parts?.[index] ?? 0;
    const row = document.createElement("li");
    row.append(element("span", String(index)), meter(part), element("span", `${(100 * part).toFixed(1)} %`));
    return row;
  });
  byId("classes").replaceChildren(...rows);
}

function classify(session, array) {
  const [input] = session.inputs;
  const [output] = session.outputs;
  const others = session.createInputs();
  const start = performance.now();
  session.setInputs({ ...others, [input.name]: array });
  session.runSteps();
  const scores = Array.from(session.getOutputs()[output.name], Number);
  byId("taken").textContent = `one run, ${formatMs(performance.now() - start)}`;
  showGuess(probabilities(scores), scores.length);
}

/** A pad to draw on; a picture becomes ink on it. */
function openDigits(session) {
  let isScheduled = false;
  const show = () => {
    isScheduled = false;
    const image = pad.image();
    return image === null ? showGuess(null, 10) : classify(session, image);
  };
  const pad = new DigitPad(byId("pad"), () => {
    if (!isScheduled) {
      isScheduled = true;
      requestAnimationFrame(show);
    }
  });
  byId("clear").addEventListener("click", () => pad.clear());
  const samples = Array.from({ length: 10 }, (_, digit) => button(String(digit), () => pad.drawSample(digit)));
  byId("samples").replaceChildren(...samples);
  byId("drawing").hidden = byId("pad-help").hidden = false;
  acceptPictures(byId("file"), byId("drop"), (bitmap) => pad.setInk(inkOf(fillCanvas(byId("pad"), bitmap))), showFailure);
  byId("digits").hidden = false;
  pad.drawSample(3);
}

/** A picture, at just the size of the model's input, through its own kernel. */
function openPictures(session) {
  const [, channels, height, width] = session.inputs[0].shape;
  const pad = byId("pad");
  Object.assign(pad, { width, height, tabIndex: -1 });
  pad.setAttribute("aria-label", "The picture as the model sees it");
  byId("digits-title").textContent = "Choose a picture";
  const show = (bitmap) =>
    classify(session, session.planes(fillCanvas(pad, bitmap), channels === 3 ? IMAGENET : {}));
  acceptPictures(byId("file"), byId("drop"), show, showFailure);
  showGuess(null, session.outputs[0].shape.at(-1));
  byId("digits").hidden = false;
}

/* ---- start ---- */

function fillWithNoise(session) {
  const inputs = session.createInputs();
  for (const array of Object.values(inputs)) {
    if (array instanceof Float32Array || array instanceof Float64Array) {
      array.forEach((_, i) => (array[i] = 2 * Math.random() - 1));
    }
  }
  session.setInputs(inputs);
}

function showFailure(text) {
  byId("failure").textContent = text;
  byId("failure").hidden = false;
}

async function loadAll() {
  const contestants = [];
  for (const { label, folder } of models) {
    const start = performance.now();
    const onProgress = ({ loaded, total }) => {
      byId("status").textContent = `Loading ${label}: ${formatBytes(loaded)} of ${formatBytes(total)}`;
    };
    const session = await Session.load(folder, { ...loadOptions(), onProgress });
    contestants.push({ label, session, ms: performance.now() - start });
    fillWithNoise(session);
  }
  byId("status").textContent = "";
  return contestants;
}

try {
  const contestants = await loadAll();
  const [{ session, ms }] = contestants;
  byId("loading").textContent = formatMs(ms);
  showModel(session);
  showBackend(session);
  const timeCells = showLayers(session.decisions);
  if (isDigitModel(session)) {
    openDigits(session);
  } else if (takesPictures(session)) {
    openPictures(session);
  }
  byId("measure").addEventListener("click", () => measureAll(contestants, timeCells));
  await measureAll(contestants, timeCells);
  document.body.dataset.state = "measured";
} catch (error) {
  byId("name").textContent = "The model did not load";
  const help =
    location.protocol === "file:"
      ? " Browsers do not load modules from files: serve the folder, e.g. `python3 -m http.server`."
      : "";
  showFailure(`${error.message}${help}`);
  document.body.dataset.state = "failed";
}
