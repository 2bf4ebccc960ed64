/** Models side by side, in turns; and the time of one network over its share of zeros. */
import { median, sample, warmUp } from "./timing.mjs";
import { byId, element, formatMs, formatPercent, meter, setPart, svgElement } from "./view.mjs";

const SHOWN = 40;
const [WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP] = [560, 240, 92, 28, 34, 18];

/** One line of the race: a label, a bar, a time. */
function lane({ label }, isFirst) {
  const row = element("li", "", "lane");
  const track = meter(0, isFirst ? "" : "other");
  const value = element("span", "–", "value");
  row.append(element("span", label, "label"), track, value);
  return { row, bar: track.firstChild, value };
}

/**
 * Times sessions in turns, one sample each, and shows every turn.
 *
 * @param contestants `{label, session}`, the one that the others are held against first.
 * @returns the samples of each, milliseconds.
 */
export async function race(contestants, turns) {
  const lanes = contestants.map((contestant, i) => lane(contestant, i === 0));
  byId("lanes").replaceChildren(...lanes.map(({ row }) => row));
  const batches = [];
  for (const { session } of contestants) {
    batches.push(await warmUp(session));
  }
  const samples = contestants.map(() => []);
  for (let turn = 0; turn < turns; turn++) {
    for (const [i, { session }] of contestants.entries()) {
      samples[i].push(await sample(session, batches[i]));
    }
    showTurn(lanes, samples);
  }
  byId("method").textContent =
    `${turns} samples each, in turns, in this tab; a sample is the mean of ${batches[0]} back-to-back runs.`;
  return samples;
}

function showTurn(lanes, samples) {
  const times = samples.map(median);
  const slowest = Math.max(...times);
  lanes.forEach(({ bar, value }, i) => {
    setPart(bar, times[i] / slowest);
    value.textContent = formatMs(times[i]);
  });
  byId("median").textContent = formatMs(times[0]);
  byId("fastest").textContent = formatMs(Math.min(...samples[0]));
  byId("runs").textContent = String(samples[0].length);
  if (times.length > 1) {
    byId("ratio").textContent = `${(times[1] / times[0]).toFixed(2)}×`;
    byId("ratio-box").hidden = false;
  }
  const recent = samples[0].slice(-SHOWN);
  const top = Math.min(Math.max(...recent), 2 * times[0]);
  const bars = recent.map((ms) => {
    const bar = element("i");
    setPart(bar, ms / top);
    return bar;
  });
  byId("bars").replaceChildren(...bars);
}

/** Draws times over shares of zeros, as a line and as a table. */
export function drawCurve(points) {
  if (points.length === 0) {
    return;
  }
  const slowest = Math.max(...points.map(({ ms }) => ms), Number.MIN_VALUE);
  const x = (zeros) => LEFT + zeros * (WIDTH - LEFT - RIGHT);
  const y = (ms) => TOP + (1 - ms / slowest) * (HEIGHT - TOP - BOTTOM);
  const parts = [];
  for (const zeros of [0, 0.25, 0.5, 0.75, 1]) {
    parts.push(svgElement("line", { class: "rule", x1: x(zeros), x2: x(zeros), y1: TOP, y2: y(0) }));
    const at = { class: "tick", x: x(zeros), y: HEIGHT - 12, "text-anchor": "middle" };
    parts.push(svgElement("text", at, formatPercent(zeros)));
  }
  for (const ms of [0, slowest / 2, slowest]) {
    parts.push(svgElement("line", { class: "rule", x1: x(0), x2: x(1), y1: y(ms), y2: y(ms) }));
    const at = { class: "tick", x: LEFT - 8, y: y(ms) + 4, "text-anchor": "end" };
    parts.push(svgElement("text", at, ms ? formatMs(ms) : "0"));
  }
  const ideal = `${x(0)},${y(points[0].ms)} ${x(1)},${y(0)}`;
  const line = points.map(({ zeros, ms }) => `${x(zeros)},${y(ms)}`).join(" ");
  parts.push(svgElement("polyline", { class: "ideal", points: ideal }));
  parts.push(svgElement("polyline", { class: "line", points: line }));
  parts.push(...points.map(({ zeros, ms }) => svgElement("circle", { class: "dot", cx: x(zeros), cy: y(ms), r: 4 })));
  byId("curve-plot").replaceChildren(...parts);
  byId("curve-rows").replaceChildren(...points.map((point) => curveRow(point, points[0])));
}

function curveRow({ zeros, ms }, dense) {
  const row = element("tr");
  const head = element("th", formatPercent(zeros));
  head.scope = "row";
  row.append(head, element("td", formatMs(ms)), element("td", `${(dense.ms / ms).toFixed(2)}×`));
  return row;
}
