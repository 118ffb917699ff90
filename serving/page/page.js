// The page: from what a reader gives to what the server says, and around that input a little farther.

import { ask, identify, Refused, served } from "./ask.js";
import { AnswerView, node } from "./answer_view.js";
import { down, short } from "./charts.js";
import { asAsked, draw, fromPicture, fromText, pictureOf, toText } from "./inputs.js";
import { directions, distance, moved } from "./perturb.js";
import { receiptPanel } from "./receipt_panel.js";

const $ = (id) => document.getElementById(id);
const STEPS = 100;
const view = new AnswerView();
const state = { models: [], model: null, values: null, answer: null, asking: null, asked: 0, near: null };

async function start() {
  try {
    state.models = await served();
  } catch (error) {
    return trouble(error);
  }
  $("access").hidden = $("notice").hidden = true;
  $("model").replaceChildren(
    ...state.models.map(({ name, version }, i) => new Option(state.models.length > 1 ? `${name}, version ${version}` : name, i)),
  );
  choose(state.models[0]);
}

function trouble(error) {
  if (error.name === "AbortError") return;
  if (error instanceof Refused && error.status === 401) $("access").hidden = false;
  const offline = error instanceof TypeError;
  $("notice").textContent = offline ? "The server cannot be reached; is it still running?" : error.message;
  $("notice").hidden = false;
}

function choose(model) {
  giveUp();
  Object.assign(state, { model, values: null, answer: null });
  const { input, labels, sigma, defaults, description } = model;
  const picture = pictureOf(input);
  const what = picture ? `pictures of ${picture.width}×${picture.height} pixels, ${picture.channels === 1 ? "grey" : "colour"}` : `rows of ${size(input)} numbers`;
  $("about-model").textContent = `${description ? description + " — " : ""}${labels.length} labels; takes ${what}.${sigma ? ` Noise ${short(sigma)} (${input.units}).` : ""}`;
  $("picture-input").hidden = !picture;
  $("row-input").hidden = Boolean(picture);
  $("row-units").textContent = Array.isArray(input.step) ? "of each column" : input.units;
  $("target-radius").value = defaults.target_radius;
  $("max-draws").value = defaults.max_draws;
  $("alpha").value = defaults.alpha;
  for (const id of ["answered", "perturb"]) $(id).hidden = true;
  $("empty").hidden = false;
  examples(model);
  $("direction").replaceChildren(...directions(input, model.examples).map(([name, words]) => new Option(words, name)));
}

const size = (input) => input.shape.reduce((a, b) => a * b, 1);

function examples({ input, examples: rows }) {
  $("examples").replaceChildren(
    ...rows.map((values, i) => {
      const button = node("button", pictureOf(input) ? "" : "text", pictureOf(input) ? "" : `Example ${i + 1}`);
      button.type = "button";
      button.setAttribute("aria-label", `Example ${i + 1}`);
      button.setAttribute("aria-pressed", "false");
      if (pictureOf(input)) {
        const shown = button.appendChild(document.createElement("canvas"));
        shown.setAttribute("aria-hidden", "true"); // the button has a name
        draw(shown, values, input);
      }
      button.addEventListener("click", () => take(Int32Array.from(values), "", button));
      return button;
    }),
  );
}

/** A new input: show it and ask about it. */
function take(values, note = "", button = null) {
  state.values = values;
  for (const each of $("examples").children) each.setAttribute("aria-pressed", String(each === button));
  $("picture-note").textContent = note;
  if (pictureOf(state.model.input)) {
    draw($("picture"), values, state.model.input);
    $("picture").setAttribute("aria-label", "The picture that was asked about");
  } else {
    $("row").value = toText(values, meaning(), state.model.input);
  }
  question();
}

const meaning = () => document.querySelector("input[name=meaning]:checked").value;

function options() {
  const [target, draws, alpha] = ["target-radius", "max-draws", "alpha"].map((id) => ($(id).value === "" ? undefined : Number($(id).value)));
  const certify = $("certify").value;
  return { certify, max_draws: draws, alpha, ...(certify === "target" ? { target_radius: target } : {}) };
}

/** Ask about the input, and show every event; an older question is given up. */
async function question() {
  if (!state.values) return;
  giveUp();
  state.asking = new AbortController();
  const { model, values, asking } = state;
  $("notice").hidden = true;
  view.begin(model);
  performance.mark("asked");
  try {
    await ask(model, asAsked(values, model.input), "grid", options(), (kind, row) => {
      if (asking.signal.aborted) return;
      view.show(kind, row);
      if (!performance.getEntriesByName("labelled").some((each) => each.startTime > performance.getEntriesByName("asked").at(-1).startTime)) performance.mark("labelled");
      if (kind === "final") answered(row);
    }, asking.signal);
  } catch (error) {
    if (!asking.signal.aborted) view.fail();
    trouble(error);
  }
}

/** What was asked so far is of no interest any more, and nothing is known of an input near by. */
function giveUp() {
  state.asking?.abort();
  state.asked++;
  state.answer = state.near = null;
  $("perturb").style.visibility = "hidden";
}

/** The final answer is there: offer to change the input a little. */
function answered(row) {
  state.answer = row;
  $("perturb").hidden = false;
  $("perturb").style.visibility = "";
  $("distance").value = 0;
  near();
}

const reach = () => 2 * Math.max(state.answer.certificate?.radius ?? 0, state.model.defaults.target_radius, (state.model.sigma ?? 0) / 2) * ($("distance").value / STEPS) ** 2 * 4;

/** The input near the first one that the slider says, shown with what holds there. */
function near() {
  const { model, values, answer } = state;
  const wanted = reach();
  const changed = wanted > 0 ? moved(values, model.input, $("direction").value, wanted, model.examples) : values;
  const away = distance(values, changed, model.input);
  const radius = answer.certificate?.radius ?? 0;
  state.near = { changed, away };
  $("distance-out").textContent = short(away);
  $("distance").setAttribute("aria-valuetext", `${short(away)}, ${away <= radius ? "inside" : "outside"} the radius`);
  const inside = away <= radius;
  $("inside").textContent = !radius
    ? "Nothing is certified around this input."
    : inside
      ? `Inside the radius ${down(radius)}: the smoothed label stays “${answer.certificate.label}” here.`
      : `Outside the radius ${down(radius)}: nothing is claimed here.`;
  $("perturbed").hidden = !pictureOf(model.input);
  if (pictureOf(model.input)) draw($("perturbed"), changed, model.input);
  $("perturbed-answer").textContent = "";
}

async function askNear() {
  const { model, answer } = state;
  const { changed, away } = state.near;
  const turn = ++state.asked;
  $("perturbed-answer").textContent = "Asking …";
  try {
    await ask(model, asAsked(changed, model.input), "grid", options(), (kind, row) => {
      if (turn !== state.asked) return;
      const found = row.certificate;
      const smoothed = kind === "base" || !found ? "" : found.label === null ? "; no smoothed label is proven" : `; smoothed label “${found.label}” within ${down(found.radius)}`;
      const same = found?.label && answer.certificate?.label ? (found.label === answer.certificate.label ? " — the same as before." : " — another than before.") : "";
      $("perturbed-answer").textContent = `At distance ${short(away)}: label “${row.label}”${smoothed}${same}`;
    });
  } catch (error) {
    $("perturbed-answer").textContent = error.message;
  }
}

async function takeFile(file) {
  if (!file || !state.model) return;
  if (!pictureOf(state.model.input)) return trouble(new Error("This model takes rows of numbers, not pictures."));
  try {
    const { values, note } = await fromPicture(file, state.model.input);
    take(values, note);
  } catch (error) {
    trouble(error);
  }
}

function takeRow(text) {
  try {
    state.values = fromText(text, meaning(), state.model.input);
    for (const each of $("examples").children) each.setAttribute("aria-pressed", "false");
    question();
  } catch (error) {
    trouble(error);
  }
}

function listen() {
  $("model").addEventListener("change", () => choose(state.models[$("model").value]));
  $("file").addEventListener("change", () => takeFile($("file").files[0]));
  $("access").addEventListener("submit", submitted(() => (identify($("token").value), start())));
  $("row-input").addEventListener("submit", submitted(() => takeRow($("row").value)));
  $("options").addEventListener("submit", submitted(question));
  $("direction").addEventListener("change", () => (near(), askNear()));
  $("distance").addEventListener("input", near);
  $("distance").addEventListener("change", askNear);
  for (const each of document.querySelectorAll("input[name=meaning]")) {
    each.addEventListener("change", () => state.values && ($("row").value = toText(state.values, meaning(), state.model.input)));
  }
  document.addEventListener("paste", pasted);
  document.addEventListener("dragover", (event) => (event.preventDefault(), $("drop").classList.add("over")));
  document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    takeFile(event.dataTransfer.files[0]);
  });
  receiptPanel({ current: () => state, options, trouble });
}

function pasted(event) {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) {
    event.preventDefault();
    takeFile(file);
  }
}

const submitted = (act) => (event) => {
  event.preventDefault();
  act();
};

listen();
start();
