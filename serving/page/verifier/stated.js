// What a receipt states, as plain numbers, and the bounds of probabilities that its counts prove under the exact law.

import { KAPPA, KAPPA_UPPER, lowerComplement, upper } from "./bounds.js";
import { version } from "./form.js";
import { lawOf } from "./laws.js";

/** All that the claims of a class depend on. `level` of upper bounds is that of one class, fixed before the draws. */
export function stated(receipt) {
  const { noise, votes, lost, alpha, split, procedure } = receipt;
  const counts = votes.map(Number);
  const leader = largest(counts);
  const twoSided = receipt.two_sided === true;
  const old = version(receipt) <= 2;
  return {
    draws: Number(noise.stop),
    hits: counts[leader],
    second: counts.reduce((most, each, i) => (i === leader ? most : Math.max(most, each)), 0),
    none: Number(noise.stop - lost - votes.reduce((a, b) => a + b)),
    leader,
    lost: Number(lost),
    law: lawOf(noise),
    prior: receipt.prior,
    ofClass: alpha * split.of_class,
    ofUpper: (alpha * split.of_upper) / (twoSided ? 2 : 1),
    kappaUpper: old || twoSided ? KAPPA : KAPPA_UPPER,
    twoSided,
    name: procedure.name,
    target: procedure.target?.map((part) => part.size) ?? [procedure.target_radius],
    tolerance: procedure.radius_tolerance,
    maxDraws: Number(procedure.max_draws),
  };
}

/** The first of the largest of some counts. */
export const largest = (counts) => counts.indexOf(counts.reduce((a, b) => Math.max(a, b)));

/** An upper bound of a probability under the exact law, from that under the noise as drawn. */
export const charged = ({ law }, bound) => bound + law.charge;

/** 1 less the lower bound of a label with these hits, under the noise as drawn. */
export const complementOf = (s, hits) => (s.draws > 0 ? lowerComplement(s.draws, hits, s.ofClass, s.prior) : 1);

/** An upper bound of a label with these hits, or fewer. */
export const upperOf = (s, hits) =>
  s.ofUpper > 0 && s.draws > 0 ? Math.min(1, charged(s, upper(s.draws, Math.min(s.draws, hits), s.ofUpper, s.kappaUpper))) : 1;

/** An upper bound of the most probable label: a lost draw may have been for it. */
export const most = (s) => upperOf(s, s.hits + s.lost);
