// The sentences of an answer, in plain words: what it says and what it does not. They are those of the documentation.

import { down, short, up } from "./charts.js";

/** How sure one may be, never more than that. */
const percent = (alpha) => `${Number((100 - Number(up(100 * alpha))).toFixed(12))} %`;

/** What an answer says, a sentence each. */
export function sentences(row, units) {
  return [...certificate(row, units), ...score(row, units), ...mixture(row, units), ...joint(row, units), ...confidence(row, units)];
}

function certificate({ certificate: found, alpha, draws }, units) {
  if (!found) return ["No certificate was asked for."];
  const said = [];
  if (found.radius > 0) {
    said.push(
      `With probability at least ${percent(alpha)} over the server's noise key, the smoothed classifier gives “${found.label}” ` +
        `for every input within ${down(found.radius)} of this one (${norm(found)}, ${units}).`,
    );
    if (!found.reaches_others) said.push("That radius is below one step of the grid: it speaks of this input alone.");
    if (found.two_sided) said.push("That class is compared with the best of the others, as this model declares: its own probability may be below one half.");
  }
  if (found.status === "refuted") {
    const wanting = found.two_sided ? "leads the second by less than it needs" : "has a probability below what it needs";
    said.push(
      `The target radius ${up(found.target_radius)} is refuted: the most probable smoothed class ${wanting}. ` +
        "That does not mean that an attack exists.",
    );
  }
  if (found.status === "undecided") said.push(`Neither was shown with these ${draws} draws; nothing is claimed of the target.`);
  const place = found.two_sided ? "to lead all others" : "to be above one half";
  if (!found.radius && found.status !== "refuted") said.push(`No class is proven ${place}: the certificate abstains.`);
  return said;
}

const norm = ({ norm: name }) => (name === "l2" ? "Euclidean distance" : name);

function score({ ood }, units) {
  if (!ood) return [];
  const said = [
    `This input's score ${short(ood.score)} lies ${ood.in_distribution ? "within" : "beyond"} the threshold ${short(ood.threshold)}. ` +
      `Its p-value is ${up(ood.p_value)}: if the input is exchangeable with the calibration inputs, a p-value as small as that has at most that probability.`,
  ];
  const found = ood.certified;
  if (found && (found.score_lower !== null || found.score_upper !== null)) {
    said.push(
      `The median of the score under noise stays ${between(found.score_lower, found.score_upper)} for every input within ` +
        `${down(found.radius)} (${units}).`,
    );
  }
  if (found && found.verdict !== "undetermined") {
    const side = found.verdict === "in_distribution" ? "not above" : "above";
    said.push(`That median is proven to stay ${side} the threshold there.`);
  }
  const alarm = ood.robust_alarm;
  if (alarm) {
    said.push(
      `The robust alarm is ${alarm.raised ? "" : "not "}raised. A clean input that was changed by at most ${down(alarm.radius)} (${units}), ` +
        `without knowledge of the coming noise, raises it with probability at most ${up(alarm.false_alarms)}.`,
    );
  }
  return said;
}

/** Where an interval lies, in words. */
export function between(lower, upper) {
  if (lower === null) return `at most ${up(upper)}`;
  return upper === null ? `at least ${down(lower)}` : `between ${down(lower)} and ${up(upper)}`;
}

function mixture({ mixture: found }, units) {
  if (!found || !(found.radius > 0)) return [];
  return [
    `The mixture, whose robust network has a weight of at least ${down(found.robust_weight)}, keeps “${found.label}” within ` +
      `${down(found.radius)} (${units}), whatever the accurate network says.`,
  ];
}

function joint({ joint: found, alpha }, units) {
  if (!found) return [];
  if (!(found.radius > 0)) return ["Class and “in distribution” together, as one label, are undetermined: nothing is claimed of them."];
  const same =
    found.label === null
      ? `a score above the threshold ${down(found.threshold)}`
      : `the class “${found.label}” and a score not above the threshold ${up(found.threshold)}`;
  const said = [
    `With probability at least ${percent(alpha)} over the server's noise key, most noisy copies of every input within ` +
      `${down(found.radius)} of this one (${norm(found)}, ${units}) have ${same}.`,
  ];
  if (!found.reaches_others) said.push("That radius of the joint label is below one step of the grid: it speaks of this input alone.");
  return said;
}

function confidence({ confidence: found, alpha }, units) {
  if (!found) return [];
  if (found.label === null) return ["Nothing is claimed of the confidence in a class, since the certificate abstains."];
  return [
    `With probability at least ${percent(alpha)} over the server's noise key, the smoothed network gives “${found.label}” at least ` +
      `${down(found.lower)} on average under noise, at every input within ${down(found.radius)} of this one (${norm(found)}, ${units}), ` +
      `and at least ${down(found.lower_at_input)} at this one itself.`,
  ];
}

/** What is not claimed by an answer, a sentence each. */
export function notClaimed(row) {
  const said = [
    "That the label is right: a certificate says that it does not change, not that it is correct.",
    "Anything of the accurate network's own label or probabilities, also where it is the same.",
    `That ${up(row.alpha)} is the share of false ones among certificates: it bounds the chance that any statement of this answer is false, for an input chosen before its key is known.`,
  ];
  if (row.certificate?.radius > 0) said.push("Anything of inputs farther away than the radius, or of what was done to a picture before it came to the grid.");
  if (row.ood) said.push("That the input is familiar in meaning: the verdict speaks of a score. The p-value does not hold under attack.");
  if (row.joint) said.push("Anything, by the joint label, of the score that is printed: it speaks of most noisy copies.");
  if (row.confidence) said.push("That the label is right as often as its confidence says: that is an average of the network's own numbers, not calibrated.");
  if (row.mixture) said.push("The mixture's printed probabilities: they are estimates.");
  return said;
}
