// The confidence in the certified class: votes for it that exceed each of some thresholds, whose probabilities times the steps
// between the thresholds are a lower sum of the mean. Each has a bound of its own, at an equal part of a share of alpha.

import { lowerComplement } from "./bounds.js";
import { recorded } from "./laws.js";
import { charged } from "./stated.js";

const ABSTAINS = { class_index: null, radius: 0, lower: null, lower_at_input: null, ball: null };

/**
 * What the votes above each threshold prove in the ball of the certificate, of which `proven` are the leader and the ball, null
 * where it abstains; null where nothing was counted. `s` is what the receipt states.
 */
export function confidenceProves({ confidence, alpha, split }, s, proven) {
  if (confidence === null) return null;
  if (proven === null) return ABSTAINS;
  const { thresholds, reached } = confidence;
  const level = (alpha * split.of_confidence) / thresholds.length;
  const complements = reached.map((hits) => charged(s, lowerComplement(s.draws, Number(hits), level)));
  const sum = (least) => thresholds.reduce((total, each, i) => total + (each - (i ? thresholds[i - 1] : 0)) * least(complements[i]), 0);
  return {
    class_index: BigInt(proven.leader),
    radius: proven.ball[0],
    lower: sum((q) => (q < 1 ? s.law.leastIn(1 - q, proven.ball, q) : 0)),
    lower_at_input: sum((q) => Math.max(0, 1 - q)),
    ball: recorded(s.law, proven.ball),
  };
}
