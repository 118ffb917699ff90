// Inputs near another one: along a direction, as far as asked, on the grid and within its range.

import { topOf } from "./inputs.js";

/** The directions that can be taken from an input: [name, words]. */
export function directions(input, examples) {
  const found = [["noise", "random noise"], ["up", "all values up"], ["down", "all values down"]];
  examples.forEach((_, i) => found.push([`example ${i}`, `towards example ${i + 1}`]));
  return found;
}

/** The distance of two inputs, in the units of radii (Euclidean). */
export function distance(one, other, input) {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += (one[i] - other[i]) ** 2;
  return Math.sqrt(sum) * input.length;
}

/** The input about `wanted` away from `values` in a direction: as near to that distance as the grid and its range allow. */
export function moved(values, input, name, wanted, examples) {
  const along = direction(values, name, examples);
  const most = [input.tops].flat().reduce((a, b) => Math.max(a, b));
  const at = (scale) => values.map((value, i) => Math.min(topOf(input, i), Math.max(0, Math.round(value + scale * along[i]))));
  let [low, high] = [0, wanted / input.length];
  if (name.startsWith("example")) high = Math.min(high, 1);
  while (!name.startsWith("example") && distance(values, at(high), input) < wanted && high < 1e3 * most * Math.sqrt(values.length)) high *= 2;
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (distance(values, at(middle), input) <= wanted) low = middle;
    else high = middle;
  }
  return at(low);
}

function direction(values, name, examples) {
  if (name === "up") return Float64Array.from(values, () => 1);
  if (name === "down") return Float64Array.from(values, () => -1);
  if (name.startsWith("example ")) {
    const other = examples[Number(name.slice(8))];
    return Float64Array.from(values, (value, i) => other[i] - value);
  }
  return gaussian(values.length, 20_240_601);
}

/** Normal numbers from a seed, so that the slider moves along one line. */
function gaussian(size, seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Float64Array.from({ length: size }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}
