// What counts of votes prove about a probability (the theorems are in docs/guarantees.md). All is in plain numbers.
//
// Evidence against "the probability is at most m", from k hits and e misses, is the mixture of likelihood ratios
//     E(m) = integral over u in (0, 1) of  kappa u^(kappa-1) ((1 - u (1-m)) / m)^k u^e.
// With q = 1 - m and t = u q it is  kappa B(k+1, e+kappa) I_q(e+kappa, k+1) / (m^k q^(e+kappa)).
// By Ville's inequality the chance that it ever exceeds 1 / level is at most the level, at all numbers of draws together.

import { betaShare, logBetaTerm } from "./special.js";

/** The priors: of lower bounds, and of upper bounds since version 3 of receipts. */
export const KAPPA = 0.5;
export const KAPPA_UPPER = 8;
/** By how much evidence has to exceed its level, in nats, and a tail stay below it, relatively: room for rounding. */
const GUARD = 1e-6;
const TAIL_SLACK = 1e-9;
const LEAST_MASS = 1e-290;
/** How near to a bound it is found, relatively. A bound nearer to 1 is none, for both verifiers. */
const NARROW = 4e-13;

/** The logarithm of E(m), q = 1 - m being handed in as well; minus infinity where the hits do not speak against m. */
function evidence(draws, hits, m, q, kappa) {
  if (!(q > 0 && m > 0) || hits === 0 || hits <= draws * (1 - q)) return -Infinity;
  const [a, b] = [hits + 1, draws - hits + kappa];
  const mass = betaShare(b, a, q, m);
  if (mass < LEAST_MASS) return -Infinity;
  return Math.log(kappa) + Math.log(mass) + Math.log(m) - logBetaTerm(a, b, m, q);
}

/** Whether the probability of an event fixed beforehand is proven to lie above m. */
export function exceeds(draws, hits, m, level, kappa = KAPPA) {
  return evidence(draws, hits, m, 1 - m, kappa) >= GUARD - Math.log(level);
}

/**
 * The evidence where a bundle foresees the votes: half of it is E(m), half that of another measure on u, fixed before the first
 * draw, with `weights` at `atoms`: the sum over these of  w u^e (u + (1 - u) / m)^k.
 */
function foreseen(draws, hits, m, q, prior) {
  const mixed = evidence(draws, hits, m, q, KAPPA);
  if (prior === null || mixed === -Infinity) return mixed;
  const misses = draws - hits;
  const missed = (u) => (misses === 0 ? 0 : misses * Math.log(u));
  // u + (1 - u) / m is 1 + (1 - u) q / m
  const each = prior.atoms.map((u, j) => Math.log(prior.weights[j]) + missed(u) + hits * Math.log1p(((1 - u) * q) / m));
  const most = each.reduce((a, b) => Math.max(a, b), mixed);
  const sum = [mixed, ...each].reduce((found, one) => found + Math.exp(one - most), 0);
  return most + Math.log(sum) - Math.LN2;
}

/** The same for a label that the draws chose: sharing a sum of one, all labels together are paid for by the factor m. */
export function chosenExceeds(draws, hits, m, level, prior = null) {
  return Math.log(m) + foreseen(draws, hits, m, 1 - m, prior) >= GUARD - Math.log(level);
}

/** The least q for which `proven(q)` holds, which it does from there to 1; 1 if it does so nowhere but next to 1. */
function least(proven, from) {
  let [low, high] = [from, 1];
  for (let i = 0; i < 200 && high - low > NARROW * low; i++) {
    // Between numbers of different size the geometric mean is nearer.
    const middle = low > 0 && high > 4 * low ? Math.sqrt(low * high) : (low + high) / 2;
    if (middle <= low || middle >= high) break;
    if (proven(middle)) high = middle;
    else low = middle;
  }
  return high;
}

/** 1 - L for the label with `hits`, which the draws chose: L is its lower bound at every number of draws. */
export function lowerComplement(draws, hits, level, prior = null) {
  const proven = (q) => Math.log1p(-q) + foreseen(draws, hits, 1 - q, q, prior) >= GUARD - Math.log(level);
  return least(proven, (draws - hits) / draws);
}

/** The upper bound of the most probable label's probability: the misses' lower bound, turned around. */
export function upper(draws, hits, level, kappa) {
  const proven = (q) => evidence(draws, draws - hits, 1 - q, q, kappa) >= GUARD - Math.log(level);
  return least(proven, hits / draws);
}

/** 1 - L by Clopper and Pearson's tail, for a number of draws fixed beforehand and a label that the draws chose. */
export function fixedComplement(draws, hits, level) {
  if (hits <= 1) return 1;
  const misses = draws - hits;
  // P(Binomial(n, m) >= k) = I_m(k, n - k + 1)
  const proven = (q) => betaShare(hits, misses + 1, 1 - q, q) <= level * (1 - q) * (1 - TAIL_SLACK);
  return least(proven, 0);
}

/** 1 - L by the same tail, for an event that is fixed beforehand as well. */
export function tailComplement(draws, hits, level) {
  return least((q) => betaShare(hits, draws - hits + 1, 1 - q, q) <= level * (1 - TAIL_SLACK), 0);
}

/** The least number of hits that proves a probability above m; null if no number does. */
export function leastHits(draws, m, level) {
  if (!(level > 0) || !exceeds(draws, draws, m, level)) return null;
  let [below, found] = [0, draws];
  while (found - below > 1) {
    const middle = Math.floor((below + found) / 2);
    if (exceeds(draws, middle, m, level)) found = middle;
    else below = middle;
  }
  return found;
}
