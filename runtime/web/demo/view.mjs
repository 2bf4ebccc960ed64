/** Small pieces of the page, and how numbers are written. */

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function element(tag, text = "", className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className;
  return node;
}

export function svgElement(tag, attributes, text = "") {
  const node = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  node.textContent = text;
  return node;
}

/** Makes a bar `part` (0 to 1) full. */
export function setPart(bar, part) {
  bar.style.setProperty("--part", `${Math.min(100, Math.max(0, 100 * part))}%`);
}

export function meter(part, className = "") {
  const track = element("div", "", `meter ${className}`);
  const fill = element("i");
  setPart(fill, part);
  track.append(fill);
  return track;
}

export function button(text, action) {
  const node = element("button", text);
  node.type = "button";
  node.addEventListener("click", action);
  return node;
}

export function formatMs(ms) {
  return ms >= 1 ? `${ms.toPrecision(3)} ms` : `${(1000 * ms).toPrecision(3)} µs`;
}

export function formatBytes(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return `${(bytes / 1000 ** power).toFixed(power && 1)} ${units[power]}`;
}

export const formatPercent = (part) => `${Math.round(100 * part)} %`;

export function formatSpec({ name, shape, dtype }) {
  return `${name} ${shape.join("×") || "scalar"} ${dtype}`;
}

/** Share of the multiply-adds that a zero weight spares. */
export function zerosOf({ decisions }) {
  const sum = (key) => decisions.reduce((total, layer) => total + layer[key], 0);
  return sum("macs") > 0 ? 1 - sum("nonzero_macs") / sum("macs") : 0;
}
