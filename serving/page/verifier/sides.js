// What the counts prove of the leading class: above one half, or, two-sided, before the best of the others. Each has
//   bound      1 less the leader's lower bound, what no other exceeds, and the ball; null where nothing is proven
//   reached    whether the target is proven
//   refuted    whether no class can have what the target needs
//   farthest   a radius that no class can exceed

import { chosenExceeds, exceeds, fixedComplement } from "./bounds.js";
import { charged, complementOf, most, upperOf } from "./stated.js";

export const ONE_SIDED = {
  bound(s) {
    let complement = 1;
    if (s.name === "fixed") complement = s.draws === s.maxDraws ? fixedComplement(s.draws, s.hits, s.ofClass) : 1;
    else complement = Math.min(complementOf(s, s.hits), 1 - (s.name === "target" && ONE_SIDED.reached(s) ? s.law.neededToProve(s.target) : 0));
    const found = charged(s, complement);
    return found < 0.5 ? { complement: found, others: found, ball: s.law.ball(found) } : null;
  },

  reached(s) {
    const needed = s.law.neededToProve(s.target);
    return needed < 1 && chosenExceeds(s.draws, s.hits, needed, s.ofClass, s.prior);
  },

  refuted(s) {
    const misses = s.draws - s.hits - s.lost;
    return s.ofUpper > 0 && exceeds(s.draws, misses, 1 - s.law.neededToRefute(s.target), s.ofUpper, s.kappaUpper);
  },

  farthest: (s) => s.law.radiusAtMost(most(s)),
};

export const TWO_SIDED = {
  bound(s) {
    const complement = charged(s, complementOf(s, s.hits));
    // Votes for none are a class that can win, and a lost draw may have been for any.
    const others = Math.min(upperOf(s, Math.max(s.second, s.none) + s.lost), complement);
    const ball = s.law.lead(complement, others);
    return s.draws > 0 && ball.some((size) => size > 0) ? { complement, others, ball } : null;
  },

  reached: (s) => s.target[0] <= (TWO_SIDED.bound(s)?.ball[0] ?? -1),

  refuted: (s) => s.target[0] > TWO_SIDED.farthest(s),

  farthest(s) {
    const second = Math.max(0, 1 - charged(s, complementOf(s, s.second)));
    return s.law.leadAtMost(most(s), second);
  },
};
