// Laws of noise: what a bound of a probability at the input proves about all inputs in a ball around it (the theorems are in
// docs/guarantees.md). A ball is a list of sizes, one for each part of what a law's balls measure.

import { normal, normalQuantile } from "./special.js";

const ROUNDING = 16 * 2 ** -52;
const FARTHEST = 8; // in sigmas: no number of draws proves more
const MOST_SIGMAS = 40; // beyond it a normal tail is no double

/**
 * Gaussian noise: a probability moves by at most one unit of its normal quantile for each sigma of distance. `sigma` is in
 * the caller's units, and `charge` is how far, in total variation, the noise as drawn may be from it.
 */
export class Gaussian {
  constructor(sigma, charge, norm = "l2") {
    Object.assign(this, { sigma, charge, parts: [{ norm, units: "", whole: false }], reach: [FARTHEST * sigma] });
  }

  /** What a probability has to exceed, as drawn, so that it stays above one half within a ball. */
  neededToProve([radius]) {
    return Math.min(1, above(radius / this.sigma)) + this.charge;
  }

  /** Below this, as drawn, no bound proves the ball. */
  neededToRefute([radius]) {
    return below(radius / this.sigma) - this.charge;
  }

  /** How low a probability that is p here, or more, can get in a ball; 1 - p may be known more precisely. */
  leastIn(p, [radius], complement = 1 - p) {
    const own = p < 0.5 ? normalQuantile(p) : -normalQuantile(complement);
    return normal(own - radius / this.sigma);
  }

  /** The ball in which a label stays above `threshold`, whose complement is at most `complement`. */
  ball(complement, threshold = 0.5) {
    return [Math.max(0, -this.sigma * (normalQuantile(complement) + normalQuantile(threshold)))];
  }

  /** No label of this probability, or less, reaches farther. */
  radiusAtMost(p) {
    return this.sigma * Math.max(0, p >= 1 ? Infinity : normalQuantile(p));
  }

  /** The ball in which a label leads another by more than a margin; the other's probability is at most `rival`. */
  lead(complement, rival, margin = 0) {
    const [top, next] = [-normalQuantile(complement), normalQuantile(rival)];
    if (margin === 0) return [Math.max(0, (this.sigma / 2) * (top - next))];
    const holds = (r) => below(top - r) - above(next + r) > margin;
    if (!holds(0)) return [0];
    let [low, high] = [0, MOST_SIGMAS];
    for (let i = 0; i < 100; i++) {
      const middle = (low + high) / 2;
      if (holds(middle)) low = middle;
      else high = middle;
    }
    return [this.sigma * low];
  }

  /** No label of this probability, or less, leads one of `rival`, or more, any farther. */
  leadAtMost(p, rival) {
    const apart = (p >= 1 ? Infinity : normalQuantile(p)) - normalQuantile(rival);
    return (this.sigma / 2) * Math.max(0, apart);
  }
}

// The normal law on either safe side, so that a test of what was proven is no easier than the server's; small tails relatively.
const room = (z) => (z < 0 ? normal(z) * ROUNDING * (1 + z * z) : ROUNDING);
const above = (z) => normal(z) + room(z);
const below = (z) => Math.max(0, normal(z) - room(z));

function gaussian(parameters, charge) {
  const [sigma, norm] = [parameters.get("sigma"), parameters.get("norm")];
  const known = parameters.size === 2 && sigma > 0 && Number.isFinite(FARTHEST * sigma) && ["l2", "scaled_l2"].includes(norm);
  return known ? new Gaussian(sigma, charge, norm) : null;
}

/** Every law by its name: from its parameters and charge to its formulas, null where the parameters are not those of one. */
export const LAWS = { gaussian };

/** The law's name in a receipt: before version 4 there was one. */
const nameOf = (noise) => noise.law ?? "gaussian";

/** Whether a receipt's law is known here at all. */
export const isKnown = (noise) => Object.hasOwn(LAWS, nameOf(noise));

/** The law of a receipt; null where its parameters are none. */
export function lawOf(noise) {
  const { sigma, norm, charge, parameters } = noise;
  const known = new Map((parameters ?? []).map(({ name, value }) => [name, value]));
  if (["sigma", "norm"].some((name) => known.has(name)) || known.size < (parameters ?? []).length) return null; // one twice
  for (const [name, value] of Object.entries({ sigma, norm })) if (value !== null) known.set(name, value);
  return LAWS[nameOf(noise)](known, charge);
}

/** The larger of two balls that are proven both; the first where they cross. */
export const larger = (one, other) => (one.every((size, i) => size <= other[i]) ? other : one);

/** A ball as a receipt has it: every part by its name, where there are several. */
export const recorded = ({ parts }, ball) =>
  parts.length > 1 ? parts.map(({ norm, units }, i) => ({ norm, units, size: ball[i] })) : null;
