// What a receipt's counts prove: certificate, mixture, verdict, joint label and confidence, each a pure function of counts and terms.

import { confidenceProves } from "./confidence.js";
import { jointProves } from "./joint.js";
import { larger, recorded } from "./laws.js";
import { scoresProve } from "./scores.js";
import { ONE_SIDED, TWO_SIDED } from "./sides.js";
import { most, stated } from "./stated.js";

const SLICE = 32;

/** Every claim of a receipt, the rank of its scores, and what ended its draws; null is what is not there. */
export function proven(receipt) {
  const s = stated(receipt);
  const sides = s.twoSided ? TWO_SIDED : ONE_SIDED;
  const certificate = s.name === "off" ? null : certified(s, sides);
  const weight = receipt.robust_weight;
  return {
    stop: s.draws >= s.maxDraws ? "max_draws" : decided(s, sides) ? "decided" : "cut",
    certificate: certificate && certificateOf(s, certificate),
    mixture: certificate && weight !== null ? mixtureOf(s, certificate.bound, weight) : null,
    ...(receipt.scores === null ? { rank: null, ood: null } : scoresProve(receipt)),
    joint: jointProves(receipt, s),
    confidence: certificate && confidenceProves(receipt, s, certificate.bound && { leader: s.leader, ball: ballOf(s, certificate) }),
  };
}

/** Whether the procedure stops here by itself. Where bounds are inverted for that, it looks more seldom later on. */
function decided(s, sides) {
  const slices = Math.floor(s.draws / SLICE);
  const apart = SLICE * 2 ** Math.max(0, slices.toString(2).length - (slices === 0 ? 1 : 0) - 6);
  const looks = s.draws % apart === 0;
  if (s.name === "target") return (looks || !s.twoSided) && (sides.reached(s) || sides.refuted(s));
  return s.name === "precision" && looks && uncertainty(s, sides) <= s.tolerance;
}

/** How far apart the largest and the least radius are that the bounds allow. */
const uncertainty = (s, sides) => sides.farthest(s) - (sides.bound(s)?.ball[0] ?? 0);

/** The leader's bound, the status, and what no other class exceeds. */
function certified(s, sides) {
  const [bound, others] = [sides.bound(s), most(s)];
  if (bound === null) return { bound, status: statusOf(s, sides, bound), others };
  if (others < 1 - bound.complement) return { bound: null, status: "undecided", others: 1 }; // they contradict each other
  return { bound: { ...bound, leader: s.leader }, status: statusOf(s, sides, bound), others: Math.min(others, bound.others) };
}

function statusOf(s, sides, bound) {
  if (s.name === "target") return sides.reached(s) ? "certified" : sides.refuted(s) ? "refuted" : "undecided";
  const known = bound !== null && (s.name !== "precision" || uncertainty(s, sides) <= s.tolerance);
  return known ? "certified" : "undecided";
}

const ballOf = (s, { bound, status }) => (s.name === "target" && status === "certified" ? larger(s.target, bound.ball) : bound.ball);

function certificateOf(s, { bound, status, others }) {
  if (bound === null) return { status, class_index: null, radius: 0, p_a_lower: null, p_b_upper: others, ball: null };
  const ball = ballOf(s, { bound, status });
  return {
    status,
    class_index: BigInt(bound.leader),
    radius: ball[0],
    p_a_lower: 1 - bound.complement,
    p_b_upper: others,
    ball: recorded(s.law, ball),
  };
}

/**
 * The mixture keeps the label while its share exceeds 1 / (2 w), or leads every other by more than (1 - w) / w. The second says
 * more only where the others' bound is less than the complement of the leader's.
 */
function mixtureOf(s, bound, weight) {
  let ball = bound === null || weight <= 0.5 ? [0] : s.law.ball(bound.complement, 1 / (2 * weight));
  if (bound !== null && weight > 0.5 && bound.others < bound.complement) {
    ball = larger(ball, s.law.lead(bound.complement, bound.others, (1 - weight) / weight));
  }
  if (ball.every((size) => size === 0)) return { class_index: null, radius: 0, ball: null };
  return { class_index: BigInt(bound.leader), radius: ball[0], ball: recorded(s.law, ball) };
}
