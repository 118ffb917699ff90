// The answer on the page: what the newest event says, and how it came to be since the first.

import { between, notClaimed, sentences } from "./words.js";
import { down, interval, lines, short, up } from "./charts.js";

const $ = (id) => document.getElementById(id);
const SHOWN_LABELS = 6;
const TONES = { certified: "good", refuted: "bad", in_distribution: "good", out_of_distribution: "bad" };

/** Shows one request: `begin`, then every event by `show`, or `fail`. No answer is to be seen beside an input that it is not about. */
export class AnswerView {
  /** A new request about a model begins. */
  begin(model) {
    this.model = model;
    this.path = [];
    $("empty").hidden = true;
    $("answered").style.visibility = "hidden"; // keeps its place until the first event
  }

  /** There is no answer. */
  fail() {
    $("answered").hidden = true;
  }

  /** One event: its kind and its row. */
  show(kind, row) {
    $("answered").hidden = false;
    $("answered").style.visibility = "";
    if (kind !== "base") this.path.push(row);
    this.#headline(kind, row);
    this.#labels(row);
    this.#certificate(kind, row);
    this.#score(row);
    this.#mixture(row);
    if (kind !== "base") list("sentences", sentences(row, this.model.input.units));
    if (kind !== "base") list("not-claimed", notClaimed(row));
    if (kind === "final") this.#aloud(row);
  }

  #headline(kind, row) {
    $("label").textContent = row.label;
    $("draws").textContent = row.draws.toLocaleString("en") + (row.granted_draws ? ` of ${row.granted_draws} granted` : "");
    $("verdict-box").hidden = !row.certificate && kind !== "base";
    const status = kind === "final" ? row.certificate?.status : kind === "base" ? "drawing …" : "tightening …";
    badge($("status"), status ?? "off");
  }

  #labels({ probabilities, scores, mixture, label }) {
    const base = probabilities ?? scores;
    $("mix-key").hidden = !mixture;
    const order = base ? base.map((_, i) => i).sort((a, b) => base[b] - base[a]) : [];
    const rows = order.slice(0, SHOWN_LABELS).map((i) => ({
      name: this.model.labels[i],
      base: base[i],
      mix: mixture?.probabilities[i],
    }));
    const largest = Math.max(1, ...rows.map((each) => Math.abs(each.base)));
    $("bars").replaceChildren(
      ...rows.flatMap((each) => {
        const bar = node("div", "bar");
        bar.append(fill("", each.base / largest));
        if (each.mix !== undefined) bar.append(fill("mix", each.mix));
        const name = node("span", "", each.name);
        if (each.name === label) name.style.fontWeight = "600";
        return [name, bar, node("span", "quiet", short(each.base))];
      }),
    );
  }

  #certificate(kind, row) {
    const found = row.certificate;
    $("radius").textContent = found ? down(found.radius) : "…";
    if (!found && kind === "base") {
      for (const chart of ["radius-chart", "bounds-chart"]) $(chart).replaceChildren();
      $("radius-best").textContent = $("bounds").textContent = "";
    }
    if (!found) return;
    const path = this.path.filter((each) => each.certificate).map((each) => [each.draws, each.certificate]);
    this.#radius(found, path);
    this.#bounds(found, path);
  }

  #radius(found, path) {
    const points = path.map(([n, each]) => [n, each.radius]);
    let best = 0;
    const bests = points.map(([n, radius]) => [n, (best = Math.max(best, radius))]);
    const goal = found.target_radius ?? null;
    const top = 1.15 * Math.max(best, goal ?? 0, 1e-9 + found.sigma / 4);
    const words = `The proven radius against the draws: ${down(found.radius)} at ${path.at(-1)[0]} draws` + (goal === null ? "" : `, the target being ${short(goal)}`);
    const series = [{ points: [[0, 0], ...bests], kind: "best" }, { points: [[0, 0], ...points], kind: "" }];
    lines($("radius-chart"), series, { top, goal, words });
    const target = goal === null ? "" : ` The target is ${short(goal)} (dashed).`;
    const seen = best > found.radius ? ` The best seen, ${down(best)}, stays true.` : "";
    const label = found.label === null ? "No class is proven yet." : `Smoothed label “${found.label}”. Distances are in: ${this.model.input.units}.`;
    $("radius-best").textContent = label + target + seen;
  }

  #bounds(found, path) {
    const least = path.map(([n, each]) => [n, each.p_a_lower]);
    const most = path.map(([n, each]) => [n, each.p_b_upper]);
    const leading = found.p_a_lower === null ? "not yet bounded" : down(found.p_a_lower);
    const words = `Lower bound of the leading class ${leading}, upper bound of every other class ${up(found.p_b_upper)}`;
    lines($("bounds-chart"), [{ points: least, kind: "" }, { points: most, kind: "second" }], { top: 1, words });
    $("bounds").textContent = `Leading class at least ${leading}; every other at most ${up(found.p_b_upper)}.`;
  }

  #score(row) {
    $("ood-card").hidden = !row.ood && !this.model.ood;
    const found = row.ood;
    badge($("ood-verdict"), found ? (found.certified?.verdict ?? (found.in_distribution ? "in_distribution" : "out_of_distribution")) : "…");
    if (!found) {
      $("ood-chart").replaceChildren();
      $("ood").textContent = `Known after the first ${32} draws.`;
      return;
    }
    const [lower, upper] = [found.certified?.score_lower ?? null, found.certified?.score_upper ?? null];
    const bounded = lower === null && upper === null ? "no bound of the median yet" : `the median under noise ${between(lower, upper)}`;
    const words = `Score ${short(found.score)}, threshold ${short(found.threshold)}, ${bounded}`;
    interval($("ood-chart"), { score: found.score, lower, upper, threshold: found.threshold, words });
    $("ood").textContent = `${words}. p-value ${up(found.p_value)}.`;
  }

  #mixture({ mixture: found }) {
    $("mixture-card").hidden = !found && !this.model.mixture;
    $("mixture-label").textContent = found ? `“${found.label}”` : "";
    if (!found) $("mixture").textContent = "…";
    else if (found.radius > 0) $("mixture").textContent = `Keeps its label within ${down(found.radius)} (robust weight ${down(found.robust_weight)}).`;
    else $("mixture").textContent = "Nothing is certified of it; its label is an estimate.";
  }

  #aloud(row) {
    const proven = row.certificate?.radius ? `; smoothed label ${row.certificate.label} within radius ${down(row.certificate.radius)}` : "";
    $("said").textContent = `Label ${row.label}. ${row.certificate ? `Certificate ${row.certificate.status}` : ""}${proven}.`;
  }
}

function badge(element, text) {
  element.textContent = text.replaceAll("_", " ");
  element.className = `badge ${TONES[text] ?? ""}`;
}

/** An element with a class and a text. */
export function node(name, kind = "", text = "") {
  const found = document.createElement(name);
  found.className = kind;
  found.textContent = text;
  return found;
}

function fill(kind, share) {
  const found = node("div", `fill ${kind}`);
  found.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  return found;
}

function list(id, texts) {
  $(id).replaceChildren(...texts.map((text) => node("li", "", text)));
}
