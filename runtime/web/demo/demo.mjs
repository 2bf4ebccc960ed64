/** The page: loads the bundle that lies one folder up, runs it, and shows what it is made of. */
import { Session } from "../index.mjs";
import { DigitPad, isDigitModel } from "./digits.mjs";
import { measure, median, profile } from "./timing.mjs";

const SAMPLE_COUNT = 40;

const byId = (id) => document.getElementById(id);

function element(tag, text = "", className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className;
  return node;
}

/** A bar that is `part` (0 to 1) full. */
function bar(part) {
  const fill = document.createElement("i");
  fill.style.setProperty("--part", `${Math.min(100, 100 * part)}%`);
  return fill;
}

function meter(part) {
  const track = element("div", "", "meter");
  track.append(bar(part));
  return track;
}

function formatMs(ms) {
  return ms >= 1 ? `${ms.toPrecision(3)} ms` : `${(1000 * ms).toPrecision(3)} µs`;
}

function formatBytes(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${(bytes / 1024 ** power).toFixed(power && 1)} ${units[power]}`;
}

function formatSpec({ name, shape, dtype }) {
  return `${name} ${shape.join("×") || "scalar"} ${dtype}`;
}

function showModel({ name, inputs, outputs, manifest }) {
  document.title = `${name} · edgesparse`;
  byId("name").textContent = name;
  const facts = [
    ...inputs.map((spec) => `in: ${formatSpec(spec)}`),
    ...outputs.map((spec) => `out: ${formatSpec(spec)}`),
    manifest.target.name,
    `weights ${formatBytes(manifest.weights_bytes)}`,
    `code ${formatBytes(manifest.files["model.wasm"].bytes)}`,
    `arena ${formatBytes(manifest.arena_bytes)}`,
  ];
  byId("facts").replaceChildren(...facts.map((fact) => element("li", fact)));
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
    pair.append(element("span", `${Math.round(100 * decision.zeros)} %`), meter(decision.zeros));
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

/* ---- latency ---- */

function showSamples(samples, batch) {
  const middle = median(samples);
  byId("median").textContent = formatMs(middle);
  byId("fastest").textContent = formatMs(Math.min(...samples));
  byId("runs").textContent = String(samples.length);
  byId("method").textContent = `One thread, in this tab; each bar is the mean of ${batch} back-to-back runs.`;
  const top = Math.min(Math.max(...samples), 2 * middle);
  byId("bars").replaceChildren(...samples.map((sample) => bar(sample / top)));
}

async function measureAll(session, timeCells) {
  const button = byId("measure");
  button.disabled = true;
  const samples = [];
  for await (const { ms, batch } of measure(session, SAMPLE_COUNT)) {
    samples.push(ms);
    showSamples(samples, batch);
  }
  showTimes(timeCells, await profile(session));
  button.disabled = false;
}

/* ---- digits ---- */

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

function showGuess(parts) {
  const best = parts === null ? -1 : parts.indexOf(Math.max(...parts));
  byId("digit").textContent = best < 0 ? "–" : String(best);
  byId("confidence").textContent = best < 0 ? "nothing drawn yet" : `${Math.round(100 * parts[best])} % sure`;
  const rows = Array.from({ length: 10 }, (_, digit) => {
    const part = parts === null ? 0 : parts[digit];
    const row = document.createElement("li");
    row.append(element("span", String(digit)), meter(part), element("span", `${(100 * part).toFixed(1)} %`));
    return row;
  });
  byId("classes").replaceChildren(...rows);
}

function openDigits(session) {
  const [input] = session.inputs;
  const [output] = session.outputs;
  let isScheduled = false;
  const classify = () => {
    isScheduled = false;
    const image = pad.image();
    if (image === null) {
      showGuess(null);
      return;
    }
    session.setInputs({ [input.name]: image });
    session.runSteps();
    showGuess(probabilities(Array.from(session.getOutputs()[output.name])));
  };
  const pad = new DigitPad(byId("pad"), () => {
    if (!isScheduled) {
      isScheduled = true;
      requestAnimationFrame(classify);
    }
  });
  byId("clear").addEventListener("click", () => pad.clear());
  byId("samples").replaceChildren(...Array.from({ length: 10 }, (_, digit) => sampleButton(pad, digit)));
  byId("digits").hidden = false;
  pad.drawSample(3);
}

function sampleButton(pad, digit) {
  const button = element("button", String(digit));
  button.type = "button";
  button.addEventListener("click", () => pad.drawSample(digit));
  return button;
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

function showFailure(error) {
  byId("name").textContent = "The model did not load";
  const help =
    location.protocol === "file:"
      ? " Browsers do not load modules from files: serve the bundle, e.g. `python -m http.server`, and open /demo/."
      : "";
  byId("failure").textContent = `${error.message}${help}`;
  byId("failure").hidden = false;
}

try {
  const start = performance.now();
  const session = await Session.load(new URL("..", import.meta.url));
  byId("loading").textContent = formatMs(performance.now() - start);
  showModel(session);
  fillWithNoise(session);
  const timeCells = showLayers(session.decisions);
  if (isDigitModel(session)) {
    openDigits(session);
  }
  byId("measure").addEventListener("click", () => measureAll(session, timeCells));
  await measureAll(session, timeCells);
} catch (error) {
  showFailure(error);
}
