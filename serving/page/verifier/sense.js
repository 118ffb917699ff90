// Whether a receipt contradicts itself: terms that no bundle may declare, counts that cannot be, scores that do not fit.

import { version } from "./form.js";
import { lawOf } from "./laws.js";

const PROCEDURES = ["off", "target", "best", "precision", "fixed"];
const ANYTIME = ["target", "best", "precision"]; // they bound a class at every number of draws
const MOST_DRAWS = 10_000_000n;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const KEY = /^[0-9a-f]{32}$/;

const between = (low, value, high) => low <= value && value <= high;
const total = (values) => values.reduce((a, b) => a + b, 0n);

/** The sum of doubles, as if it was rounded once. */
function sum(values) {
  let [found, lost] = [0, 0];
  for (const each of values) {
    const next = found + each;
    lost += Math.abs(found) >= Math.abs(each) ? found - next + each : each - next + found;
    found = next;
  }
  return found + lost;
}

/** Which draws the scores are of: those of the votes, unless the receipt says others. */
export function scoreDraws({ scores, noise, lost }) {
  return scores?.drawn ?? { key: noise.key, start: noise.start, stop: noise.stop, lost };
}

/** The first field that contradicts the others or the schema; null where none does. */
export function contradiction(receipt) {
  const rules = [...terms(receipt), ...counts(receipt), ...scores(receipt), ...joint(receipt), ...confidence(receipt)];
  const broken = rules.find(([, holds]) => !holds);
  return broken ? broken[0] : null;
}

function terms(receipt) {
  const { input, model, noise, procedure, alpha, prior, two_sided: twoSided, robust_weight: weight } = receipt;
  const { name, target_radius: target, radius_tolerance: tolerance, menu_size: menu } = procedure;
  const schema = version(receipt);
  const precise = name === "precision";
  const fixed = name === "fixed";
  const law = lawOf(noise);
  return [
    ["schema", schema >= 3 || schema === (precise ? 2 : 1)],
    ["input.digest", DIGEST.test(input.digest)],
    ["input.shape", input.shape.length > 0 && input.shape.every((size) => size > 0n)],
    ["input", Number.isFinite(input.high - input.low) && input.high > input.low && input.step > 0],
    ["model.digest", DIGEST.test(model.digest)],
    ["noise.law", (noise.law !== null) === schema >= 4],
    ["noise.parameters", law !== null],
    ...(law ? balls(receipt, law) : []),
    ["noise.stream", noise.stream === "noise-v1" || !["gaussian", null].includes(noise.law)],
    ["noise.charge", noise.charge >= 0 && noise.charge < 1],
    ["noise.key", KEY.test(noise.key)],
    ["alpha", between(1e-12, alpha, 0.5)],
    ["procedure.name", PROCEDURES.includes(name)],
    ["procedure.menu_size", (menu !== null) === (fixed && schema >= 3) && (menu === null || between(1n, menu, MOST_DRAWS))],
    ["split", isSplit(receipt, fixed)],
    ["procedure.target_radius", (target !== null) === (name === "target") && (target === null || (target >= 0 && Number.isFinite(target)))],
    ["procedure.radius_tolerance", (tolerance !== null) === precise && (tolerance === null || (tolerance > 0 && Number.isFinite(tolerance)))],
    ["prior", prior === null || (ANYTIME.includes(name) && isMeasure(prior))],
    ["two_sided", twoSided === null || (twoSided && ANYTIME.includes(name))],
    ["robust_weight", weight === null || between(0, weight, 1)],
  ];
}

/** Whole balls stand where the law's have several parts, and nowhere else. */
function balls(receipt, law) {
  const { procedure, claims, prior, split, two_sided: twoSided } = receipt;
  const several = law.parts.length > 1;
  const further = [split.of_joint, split.of_confidence, twoSided, receipt.scores?.alarm ?? null].some((each) => each !== null);
  const newest = further ? 6 : several || prior !== null ? 5 : null;
  const isRadius = (radius) => several || isSize(law.parts[0], radius);
  return [
    ["procedure.target_radius", procedure.target_radius === null || isRadius(procedure.target_radius)],
    ["scores.radius", receipt.scores === null || isRadius(receipt.scores.radius)],
    ["procedure.target", isBall(procedure.target, procedure.target_radius, law)],
    ["procedure.target", !several || (procedure.target === null) === (procedure.target_radius === null)],
    ["claims.certificate.ball", !claims.certificate || isBall(claims.certificate.ball, claims.certificate.radius, law)],
    ["claims.mixture.ball", !claims.mixture || isBall(claims.mixture.ball, claims.mixture.radius, law)],
    ["claims.confidence.ball", !claims.confidence || isBall(claims.confidence.ball, claims.confidence.radius, law)],
    ["claims.joint.ball", !claims.joint || isBall(claims.joint.ball, claims.joint.radius, law)],
    ["schema", newest === null ? version(receipt) <= 4 : version(receipt) === newest],
    ["two_sided", !several || twoSided === null],
    ["scores", !several || receipt.scores === null], // a radius of one part says of no such ball where it ends
  ];
}

/** Whether there is no ball, or one of the law's own parts, of which `radius` is the first size. */
function isBall(said, radius, { parts }) {
  if (said === null) return true;
  const named = said.length === parts.length && said.every((each, i) => each.norm === parts[i].norm && each.units === parts[i].units);
  return parts.length > 1 && named && said[0].size === radius && said.every(({ size }, i) => isSize(parts[i], size));
}

const isSize = ({ whole }, size) => size >= 0 && Number.isFinite(size) && (!whole || Number.isInteger(size));

/** Whether weights at atoms from 0 to 1 are a measure of at most one. */
function isMeasure({ atoms, weights }) {
  const most = 1 + 1e-12;
  const each = atoms.every((atom) => between(0, atom, 1)) && weights.every((weight) => between(0, weight, most));
  return each && atoms.length === weights.length && sum(weights) > 0 && sum(weights) <= most;
}

function isSplit({ split, procedure }, fixed) {
  const shares = Object.values(split).filter((share) => share !== null);
  const all = shares.every((share) => share === 0 || between(1e-100, share, 1));
  if (!all || split.of_class <= 0 || split.of_joint === 0 || split.of_confidence === 0 || sum(shares) > 1 + 1e-12) return false;
  if (!fixed) return true;
  // Every number of draws on the menu has a stream, and so a part of alpha, of its own.
  const part = 1 / Number(procedure.menu_size ?? 1n);
  const alone = !split.of_upper && !split.of_threshold && !split.of_interval && split.of_joint === null && split.of_confidence === null;
  return split.of_class === part && alone;
}

function counts({ noise, procedure, votes, lost }) {
  return [
    ["noise.start", noise.start === 0n],
    ["noise.stop", between(0n, noise.stop, procedure.max_draws) && procedure.max_draws <= MOST_DRAWS],
    ["procedure.max_draws", procedure.max_draws >= 1n || procedure.name !== "fixed"],
    ["votes", votes.length >= 2 && [...votes, lost].every((count) => count >= 0n) && total(votes) + lost <= noise.stop],
  ];
}

function scores(receipt) {
  const found = receipt.scores;
  if (found === null) return [];
  const { stop: draws, lost } = scoreDraws(receipt);
  const { alarm, above, at_most: inside, rank, lowest, highest, threshold } = found;
  const rules = [
    ...drawn(receipt),
    ["scores.threshold", Number.isFinite(threshold)],
    ["scores.radius", found.radius > 0 && Number.isFinite(found.radius)],
    ["scores.score_draws", found.score_draws >= 1n],
    ["scores.score", found.score === null || draws >= found.score_draws],
    ["scores.calibration_at_least", between(0n, found.calibration_at_least, found.calibration_size)],
    ["scores", above >= 0n && inside >= 0n && above + inside + lost === draws],
    ["scores.alarm", alarm === null || (receipt.procedure.name !== "fixed" && isAlarm(alarm, found, draws - lost))],
  ];
  if (rank === null) return [...rules, ["scores", lowest === -Infinity && highest === Infinity]];
  // The score of a rank lies on the side of the threshold on which so many scores are; lost ones are on the worse side.
  return [
    ...rules,
    ["scores.rank", between(1n, rank, draws)],
    ["scores.lowest", lowest <= threshold === inside + lost >= draws + 1n - rank],
    ["scores.highest", highest <= threshold === inside >= rank],
  ];
}

/** A higher threshold has no more scores above it, a lower one no fewer. */
function isAlarm({ far, of_median: ofMedian, of_bound: ofBound, radius, threshold, above }, scores, scored) {
  const levels = [far, ofMedian, ofBound].every((level) => level > 0 && level < 1);
  const fits = threshold > scores.threshold ? above <= scores.above : above >= scores.above;
  const same = threshold !== scores.threshold || above === scores.above;
  return levels && radius >= 0 && Number.isFinite(radius) && Number.isFinite(threshold) && between(0n, above, scored) && fits && same;
}

/** A draw that has not the joint label of its class is "out", the last label: its score lies above the threshold. */
function joint(receipt) {
  const { joint: found, claims, split, procedure, votes, lost, noise, scores: scored } = receipt;
  const claimed = ["joint", (found === null) === (claims.joint === null)];
  if (found === null) return [claimed];
  const [classes, out] = [found.votes.slice(0, -1), found.votes.at(-1) ?? 0n];
  const fewer = classes.map((mine, i) => (votes[i] ?? 0n) - mine);
  return [
    claimed,
    ["joint", split.of_joint !== null && ANYTIME.includes(procedure.name)],
    ["joint.threshold", Number.isFinite(found.threshold) && (scored === null || scored.threshold === found.threshold)],
    ["joint.votes", found.votes.length === votes.length + 1 && found.votes.every((count) => count >= 0n)],
    ["joint.votes", total(found.votes) + lost <= noise.stop && fewer.every((count) => count >= 0n) && total(fewer) <= out],
    ["joint.votes", scored === null || out === scored.above],
  ];
}

/** Fewer votes exceed a higher threshold, and all are among those for the leading class. */
function confidence({ confidence: found, claims, split, procedure, votes }) {
  const claimed = ["confidence", (found === null) === (claims.confidence === null)];
  if (found === null) return [claimed];
  const { thresholds, reached } = found;
  const most = votes.reduce((a, b) => (a > b ? a : b), 0n);
  const rises = thresholds.every((each, i) => each > (i ? thresholds[i - 1] : 0) && each < 1 && Math.fround(each) === each);
  return [
    claimed,
    ["confidence", split.of_confidence !== null && ANYTIME.includes(procedure.name)],
    ["confidence.thresholds", between(1, thresholds.length, 16) && rises],
    ["confidence.reached", reached.length === thresholds.length && reached.every((each, i) => between(0n, each, i ? reached[i - 1] : most))],
  ];
}

function drawn(receipt) {
  const { noise, lost, procedure, scores: found } = receipt;
  const { key, start, stop, lost: without } = scoreDraws(receipt);
  const fixed = procedure.name === "fixed";
  const same = key === noise.key && stop === noise.stop && without === lost;
  return [
    ["scores.drawn", (found.drawn !== null) === version(receipt) >= 3],
    ["scores.drawn.key", KEY.test(key)],
    ["scores.drawn.start", start === 0n],
    ["scores.drawn.lost", between(0n, without, stop)],
    ["scores.drawn", found.drawn === null || fixed || same],
    ["scores.drawn", found.drawn === null || !fixed || (key !== noise.key && stop <= found.score_draws)],
  ];
}
