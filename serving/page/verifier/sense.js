// Whether a receipt contradicts itself: terms that no bundle may declare, counts that cannot be, scores that do not fit.

const SCHEMAS = ["certserve-receipt/1", "certserve-receipt/2", "certserve-receipt/3", "certserve-receipt/4"];
const PROCEDURES = ["off", "target", "best", "precision", "fixed"];
const MOST_DRAWS = 10_000_000n;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const KEY = /^[0-9a-f]{32}$/;

const between = (low, value, high) => low <= value && value <= high;
const total = (values) => values.reduce((a, b) => a + b, 0n);

/** The version of a receipt's schema, from 1. */
export const version = ({ schema }) => SCHEMAS.indexOf(schema) + 1;

/** Which draws the scores are of: those of the votes, unless the receipt says others. */
export function scoreDraws({ scores, noise, lost }) {
  return scores?.drawn ?? { key: noise.key, start: noise.start, stop: noise.stop, lost };
}

/** The first field that contradicts the others or the schema; null where none does. */
export function contradiction(receipt) {
  const rules = [...terms(receipt), ...counts(receipt), ...scores(receipt)];
  const broken = rules.find(([, holds]) => !holds);
  return broken ? broken[0] : null;
}

function terms(receipt) {
  const { input, model, noise, procedure, alpha, robust_weight: weight } = receipt;
  const { name, target_radius: target, radius_tolerance: tolerance, menu_size: menu } = procedure;
  const schema = version(receipt);
  const precise = name === "precision";
  const fixed = name === "fixed";
  return [
    ["schema", schema >= 3 || schema === (precise ? 2 : 1)],
    ["input.digest", DIGEST.test(input.digest)],
    ["input.shape", input.shape.length > 0 && input.shape.every((size) => size > 0n)],
    ["input", Number.isFinite(input.high - input.low) && input.high > input.low && input.step > 0],
    ["model.digest", DIGEST.test(model.digest)],
    ["noise.law", schema === 4 ? noise.law === "gaussian" : noise.law === null],
    ["noise.sigma", noise.sigma !== null && noise.sigma > 0 && Number.isFinite(noise.sigma)],
    ["noise.norm", ["l2", "scaled_l2"].includes(noise.norm)],
    ["noise.parameters", (noise.parameters ?? []).length === 0], // the Gaussian law has no further ones
    ["noise.stream", noise.stream === "noise-v1"],
    ["noise.charge", noise.charge >= 0 && noise.charge < 1],
    ["noise.key", KEY.test(noise.key)],
    ["alpha", between(1e-12, alpha, 0.5)],
    ["procedure.name", PROCEDURES.includes(name)],
    ["procedure.menu_size", (menu !== null) === (fixed && schema >= 3) && (menu === null || between(1n, menu, MOST_DRAWS))],
    ["split", isSplit(receipt, fixed)],
    ["procedure.target_radius", (target !== null) === (name === "target") && (target === null || (target >= 0 && Number.isFinite(target)))],
    ["procedure.radius_tolerance", (tolerance !== null) === precise && (tolerance === null || (tolerance > 0 && Number.isFinite(tolerance)))],
    ["robust_weight", weight === null || between(0, weight, 1)],
  ];
}

function isSplit({ split, procedure }, fixed) {
  const shares = Object.values(split);
  const all = shares.every((share) => share === 0 || between(1e-100, share, 1));
  if (!all || split.of_class <= 0 || shares.reduce((a, b) => a + b) > 1 + 1e-12) return false;
  if (!fixed) return true;
  // Every number of draws on the menu has a stream, and so a part of alpha, of its own.
  const part = 1 / Number(procedure.menu_size ?? 1n);
  return split.of_class === part && !split.of_upper && !split.of_threshold && !split.of_interval;
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
  const { above, at_most: inside, rank, lowest, highest, threshold } = found;
  const rules = [
    ...drawn(receipt),
    ["scores.threshold", Number.isFinite(threshold)],
    ["scores.radius", found.radius > 0 && Number.isFinite(found.radius)],
    ["scores.score_draws", found.score_draws >= 1n],
    ["scores.score", found.score === null || draws >= found.score_draws],
    ["scores.calibration_at_least", between(0n, found.calibration_at_least, found.calibration_size)],
    ["scores", above >= 0n && inside >= 0n && above + inside + lost === draws],
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
