// Small charts in SVG: lines against draws, and an interval beside a threshold. Each says in words what it shows.

const SVG = "http://www.w3.org/2000/svg";
const [LEFT, RIGHT, TOP, BOTTOM] = [54, 12, 8, 20];
const USUAL_WIDTH = 300;

function put(svg, name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  svg.append(node);
  return node;
}

/** Empty a chart and say in words what it will show; gives the width in pixels, so that text has one size everywhere. */
function cleared(svg, height, words) {
  const width = Math.round(svg.parentElement.clientWidth) - 32 || USUAL_WIDTH;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", words);
  return width;
}

/** A number with as many digits as are worth reading. */
export function short(number) {
  if (number === null || number === undefined) return "none";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1e5 || size < 1e-4) return number.toExponential(2);
  return String(Number(number.toPrecision(size >= 100 ? 4 : 3)));
}

/** A number that is no larger than the one given: what is claimed is never rounded up. */
export function down(number) {
  if (!number) return "0";
  const near = Number(number.toPrecision(4));
  const unit = 10 ** (Math.floor(Math.log10(Math.abs(number))) - 3);
  return short4(near > number ? near - unit : near);
}

/** A number that is no smaller than the one given: neither is a bound from above rounded down. */
export function up(number) {
  const found = down(-number);
  return found.startsWith("-") ? found.slice(1) : found === "0" ? "0" : `-${found}`;
}

function short4(number) {
  return Math.abs(number) < 1e-4 || Math.abs(number) >= 1e6 ? number.toExponential(3) : String(Number(number.toPrecision(4)));
}

/** Lines of [draws, value] over the draws. `lines` are {points, kind}, `goal` a horizontal mark or null. */
export function lines(svg, series, { top, bottom = 0, goal = null, height = 150, words }) {
  const width = cleared(svg, height, words);
  const last = Math.max(32, ...series.flatMap(({ points }) => points.map(([n]) => n)));
  const x = (n) => LEFT + (n / last) * (width - LEFT - RIGHT);
  const y = (v) => height - BOTTOM - ((v - bottom) / (top - bottom)) * (height - TOP - BOTTOM);
  for (const value of [bottom, (bottom + top) / 2, top]) {
    put(svg, "path", { class: "axis", d: `M${LEFT} ${y(value)}H${width - RIGHT}` });
    put(svg, "text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, short(value));
  }
  put(svg, "text", { x: LEFT, y: height - 5 }, "0");
  put(svg, "text", { x: width - RIGHT, y: height - 5, "text-anchor": "end" }, `${last.toLocaleString("en")} draws`);
  if (goal !== null) put(svg, "path", { class: "axis goal", d: `M${LEFT} ${y(goal)}H${width - RIGHT}` });
  for (const { points, kind } of series) {
    const known = points.filter(([, value]) => value !== null);
    if (!known.length) continue;
    put(svg, "path", { class: `line ${kind}`, d: known.map(([n, v], i) => `${i ? "L" : "M"}${x(n)} ${y(v)}`).join("") });
    const [n, v] = known.at(-1);
    put(svg, "circle", { class: `dot ${kind}`, cx: x(n), cy: y(v), r: 3.5 });
  }
}

/** A score, the interval around its median and the threshold, on one axis. */
export function interval(svg, { score, lower, upper, threshold, words }) {
  const height = 64;
  const width = cleared(svg, height, words);
  const known = [score, lower, upper, threshold].filter((value) => value !== null && Number.isFinite(value));
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const room = (most - least || Math.abs(most) || 1) * 0.12;
  const x = (value) => 8 + ((value - least + room) / (most - least + 2 * room)) * (width - 16);
  put(svg, "path", { class: "axis", d: `M8 30H${width - 8}` });
  const [from, to] = [lower === null ? 8 : x(lower), upper === null ? width - 8 : x(upper)];
  if (lower !== null || upper !== null) put(svg, "rect", { class: "span", x: from, y: 23, width: Math.max(2, to - from), height: 14, rx: 3 });
  put(svg, "path", { class: "axis goal", d: `M${x(threshold)} 12V48` });
  const end = x(threshold) > width - 130 ? "end" : x(threshold) < 130 ? "start" : "middle";
  put(svg, "text", { x: x(threshold), y: 60, "text-anchor": end }, `threshold ${short(threshold)}`);
  if (score !== null) put(svg, "circle", { class: "dot second", cx: x(score), cy: 30, r: 4.5 });
}
