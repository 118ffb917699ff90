// What a receipt's scores prove: the rank of their interval, and the verdict.

import { chosenExceeds, leastHits, tailComplement } from "./bounds.js";
import { lawOf } from "./laws.js";
import { scoreDraws } from "./sense.js";

/** The verdict on the score and the rank of its interval; the verdict is null while the first scores are not all there. */
export function scoresProve(receipt) {
  const found = receipt.scores;
  const draws = Number(scoreDraws(receipt).stop);
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
  return { rank, ood };
}

const NOTHING = { verdict: null, score_lower: null, score_upper: null, robust_alarm: null };

function certifiedScore({ scores: found, noise, alpha, split }, draws, needed) {
  const level = alpha * split.of_threshold;
  const side = (hits) => level > 0 && needed < 1 && chosenExceeds(draws, Number(hits), needed, level);
  const outside = side(found.above) || found.lowest > found.threshold;
  const inside = side(found.at_most) || found.highest <= found.threshold;
  const kept = (bound) => (Number.isFinite(bound) && found.lowest <= found.highest ? bound : null);
  return {
    verdict: outside === inside ? "undetermined" : outside ? "out_of_distribution" : "in_distribution",
    score_lower: kept(found.lowest),
    score_upper: kept(found.highest),
    robust_alarm: found.alarm && isRaised(found.alarm, Number(found.score_draws), draws, lawOf(noise)),
  };
}

/**
 * Whether so many scores lie above the alarm's threshold that, whatever an attack within its radius did, the clean median was
 * above it as well: that is no lower than a quantile, which the law carries over to the attacked input.
 */
function isRaised({ radius, of_median: ofMedian, of_bound: ofBound, above }, scored, draws, law) {
  const clean = 1 - tailComplement(scored, Math.floor((scored + 1) / 2), ofMedian) - law.charge;
  const attacked = Math.max(0, law.leastIn(clean, [radius]) - law.charge);
  const wanted = leastHits(draws, 1 - attacked, ofBound);
  return wanted !== null && Number(above) >= wanted;
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
