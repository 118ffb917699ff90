// What a receipt's counts prove: certificate, mixture and verdict, each a pure function of counts and terms.

import { chosenExceeds, exceeds, fixedComplement, KAPPA, KAPPA_UPPER, leastHits, lowerComplement, upper } from "./bounds.js";
import { version } from "./form.js";
import { larger, lawOf, recorded } from "./laws.js";
import { scoreDraws } from "./sense.js";

const SLICE = 32;

/** All that the claims depend on, as plain numbers. */
function stated(receipt) {
  const { noise, votes, lost, alpha, split, procedure } = receipt;
  const counts = votes.map(Number);
  const leader = counts.indexOf(counts.reduce((a, b) => Math.max(a, b)));
  return {
    draws: Number(noise.stop),
    hits: counts[leader],
    leader,
    lost: Number(lost),
    law: lawOf(noise),
    prior: receipt.prior,
    ofClass: alpha * split.of_class,
    ofUpper: alpha * split.of_upper,
    kappaUpper: version(receipt) <= 2 ? KAPPA : KAPPA_UPPER,
    name: procedure.name,
    target: procedure.target?.map((part) => part.size) ?? [procedure.target_radius],
    tolerance: procedure.radius_tolerance,
    maxDraws: Number(procedure.max_draws),
  };
}

/** An upper bound of a probability under the exact law, from that under the noise as drawn. */
const charged = ({ law }, bound) => bound + law.charge;

const reached = (s) => {
  const needed = s.law.neededToProve(s.target);
  return needed < 1 && chosenExceeds(s.draws, s.hits, needed, s.ofClass, s.prior);
};

const refuted = (s) => {
  const misses = s.draws - s.hits - s.lost;
  return s.ofUpper > 0 && exceeds(s.draws, misses, 1 - s.law.neededToRefute(s.target), s.ofUpper, s.kappaUpper);
};

/** 1 less the leader's bound under the exact law; null where that does not exceed one half. */
function proven(s, floor = 0) {
  let complement = 1;
  if (s.name === "fixed") complement = s.draws === s.maxDraws ? fixedComplement(s.draws, s.hits, s.ofClass) : 1;
  else if (s.draws > 0) complement = Math.min(lowerComplement(s.draws, s.hits, s.ofClass, s.prior), 1 - floor);
  const found = charged(s, complement);
  return found < 0.5 ? found : null;
}

/** An upper bound of the most probable label's probability under the exact law. */
function most(s) {
  if (!(s.ofUpper > 0) || s.draws === 0) return 1;
  return Math.min(1, charged(s, upper(s.draws, Math.min(s.draws, s.hits + s.lost), s.ofUpper, s.kappaUpper)));
}

/** How far apart the largest and the least radius are that the bounds allow. */
function uncertainty(s) {
  const complement = proven(s);
  return s.law.radiusAtMost(most(s)) - (complement === null ? 0 : s.law.ball(complement)[0]);
}

/** Whether the procedure stops here by itself. `precision` looks after every slice, and more seldom later on. */
function decided(s) {
  if (s.name === "target") return reached(s) || refuted(s);
  if (s.name !== "precision") return false;
  const slices = Math.floor(s.draws / SLICE);
  const apart = SLICE * 2 ** Math.max(0, slices.toString(2).length - (slices === 0 ? 1 : 0) - 6);
  return s.draws % apart === 0 && uncertainty(s) <= s.tolerance;
}

/** Certificate and mixture of a receipt, and what ended its draws; null is what is not there. */
export function votesProve(receipt) {
  const s = stated(receipt);
  const stop = s.draws >= s.maxDraws ? "max_draws" : s.name !== "off" && decided(s) ? "decided" : "cut";
  if (s.name === "off") return { stop, certificate: null, mixture: null };
  const certificate = certificateOf(s);
  const weight = receipt.robust_weight;
  return { stop, certificate: certificate.claim, mixture: weight === null ? null : mixtureOf(s, certificate, weight) };
}

function certificateOf(s) {
  const isReached = s.name === "target" && reached(s);
  let complement = proven(s, isReached ? s.law.neededToProve(s.target) : 0);
  let status = statusOf(s, complement, isReached);
  let others = most(s);
  if (complement !== null && others < 1 - complement) [complement, status, others] = [null, "undecided", 1]; // they contradict each other
  const own = complement === null ? null : s.law.ball(complement);
  const ball = own !== null && isReached ? larger(s.target, own) : own;
  const claim = {
    status,
    class_index: complement === null ? null : BigInt(s.leader),
    radius: ball === null ? 0 : ball[0],
    ball: ball && recorded(s.law, ball),
    p_a_lower: complement === null ? null : 1 - complement,
    p_b_upper: complement === null ? others : Math.min(others, complement),
  };
  return { claim, complement };
}

function statusOf(s, complement, isReached) {
  if (s.name === "target") return isReached ? "certified" : refuted(s) ? "refuted" : "undecided";
  const known = complement !== null && (s.name !== "precision" || uncertainty(s) <= s.tolerance);
  return known ? "certified" : "undecided";
}

/**
 * The mixture keeps the label while its share exceeds 1 / (2 w). The form that compares it with the other labels never says
 * more here: their bound is the complement of the leader's.
 */
function mixtureOf(s, { claim, complement }, weight) {
  const ball = complement === null || weight <= 0.5 ? [] : s.law.ball(complement, 1 / (2 * weight));
  if (ball.every((size) => size === 0)) return { class_index: null, radius: 0, ball: null };
  return { class_index: claim.class_index, radius: ball[0], ball: recorded(s.law, ball) };
}

/** The verdict on the score and the rank of its interval; the verdict is null while the first scores are not all there. */
export function scoresProve(receipt) {
  const found = receipt.scores;
  const { stop, lost } = scoreDraws(receipt);
  const draws = Number(stop);
  const needed = lawOf(receipt.noise).neededToProve([found.radius]);
  const rank = leastHits(draws, needed, (receipt.alpha * receipt.split.of_interval) / 2);
  if (found.score === null) return { rank, ood: null };
  const certified = receipt.procedure.name === "fixed" ? NOTHING : certifiedScore(receipt, draws, needed);
  const ood = {
    score: found.score,
    p_value: quotient(found.calibration_at_least + 1n, found.calibration_size + 1n),
    in_distribution: found.score <= found.threshold,
    ...certified,
  };
  return { rank, ood, lost };
}

const NOTHING = { verdict: null, score_lower: null, score_upper: null };

function certifiedScore({ scores: found, alpha, split }, draws, needed) {
  const level = alpha * split.of_threshold;
  const side = (hits) => level > 0 && needed < 1 && chosenExceeds(draws, Number(hits), needed, level);
  const outside = side(found.above) || found.lowest > found.threshold;
  const inside = side(found.at_most) || found.highest <= found.threshold;
  const kept = (bound) => (Number.isFinite(bound) && found.lowest <= found.highest ? bound : null);
  return {
    verdict: outside === inside ? "undetermined" : outside ? "out_of_distribution" : "in_distribution",
    score_lower: kept(found.lowest),
    score_upper: kept(found.highest),
  };
}

/** A quotient of whole numbers of any size, from 0 to 1, rounded once. */
function quotient(above, below) {
  const bits = (n) => BigInt(n.toString(2).length);
  // Some more digits than a double holds, and a last one that says whether there were others; or all that lie above the least.
  const wanted = bits(below) - bits(above) + 60n;
  const shift = wanted < 1074n ? wanted : 1074n;
  const digits = (above << shift) / below;
  const twice = 2n * ((above << shift) - digits * below);
  if (digits >= 2n ** 53n) return Number(digits | (twice ? 1n : 0n)) * 2 ** -Number(shift);
  return Number(digits + (twice > below || (twice === below && digits & 1n) ? 1n : 0n)) * 2 ** -Number(shift);
}
