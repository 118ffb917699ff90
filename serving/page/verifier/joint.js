// The joint label, "class and in distribution": each draw has its class where its score is not above the threshold, else it is
// "out", which is one label more. Its bound is that of a class, at a share of alpha of its own, and no prior has a part in it.

import { lowerComplement } from "./bounds.js";
import { recorded } from "./laws.js";
import { charged, largest } from "./stated.js";

const ABSTAINS = { verdict: "undetermined", class_index: null, radius: 0, p_lower: null, ball: null };

/**
 * What the joint votes of a receipt prove; null where there are none. `s` is what the receipt states. It can contradict neither the
 * certificate nor the verdict: all count the same draws, and no bound lies beyond the share that was counted.
 */
export function jointProves({ joint, alpha, split }, s) {
  if (joint === null) return null;
  if (s.draws === 0) return ABSTAINS;
  const votes = joint.votes.map(Number);
  const leader = largest(votes);
  const complement = charged(s, lowerComplement(s.draws, votes[leader], alpha * split.of_joint));
  if (!(complement < 0.5)) return ABSTAINS;
  const [ball, out] = [s.law.ball(complement), leader === votes.length - 1];
  return {
    verdict: out ? "out_of_distribution" : "in_distribution",
    class_index: out ? null : BigInt(leader),
    radius: ball[0],
    p_lower: 1 - complement,
    ball: recorded(s.law, ball),
  };
}
