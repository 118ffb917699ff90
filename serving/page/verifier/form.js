// The form of a signed receipt: which fields there are and of what kind, and the bytes that are signed.
//
// A receipt is JSON whose numbers are whole. Every other number is a text: a double in hexadecimal, in its one spelling
// ("0x1.8000000000000p+1" is 3), or "inf" or "-inf". The signed bytes are the record's JSON in ASCII, its fields in alphabetical
// order, without white space. A field that is unknown or missing, or of another kind, makes it no receipt.

const VERSIONS = [1, 2, 3, 4, 5, 6].map((each) => `certserve-receipt/${each}`);
const INT = "a whole number";
const FLOAT = "a double in hexadecimal";
const TEXT = "a text";
const maybe = (kind) => ({ maybe: kind }); // may be null
const later = (kind) => ({ later: kind }); // may be absent, and is never null
const listOf = (kind) => ({ listOf: kind });

const BALL = later(listOf({ norm: TEXT, units: TEXT, size: FLOAT })); // since version 5, where balls have several parts
const CLAIMS = {
  certificate: maybe({ status: TEXT, class_index: maybe(INT), radius: FLOAT, p_a_lower: maybe(FLOAT), p_b_upper: FLOAT, ball: BALL }),
  ood: maybe({ score: FLOAT, p_value: FLOAT, in_distribution: "true or false", verdict: maybe(TEXT), score_lower: maybe(FLOAT), score_upper: maybe(FLOAT), robust_alarm: later("true or false") }),
  mixture: maybe({ class_index: maybe(INT), radius: FLOAT, ball: BALL }),
  joint: later({ verdict: TEXT, class_index: maybe(INT), radius: FLOAT, p_lower: maybe(FLOAT), ball: BALL }),
  confidence: later({ class_index: maybe(INT), radius: FLOAT, lower: maybe(FLOAT), lower_at_input: maybe(FLOAT), ball: BALL }),
};
const SCORES = {
  threshold: FLOAT, radius: FLOAT, score_draws: INT, calibration_size: INT, score: maybe(FLOAT), calibration_at_least: INT,
  above: INT, at_most: INT, rank: maybe(INT), lowest: FLOAT, highest: FLOAT,
  drawn: later({ key: TEXT, start: INT, stop: INT, lost: INT }),
  alarm: later({ far: FLOAT, radius: FLOAT, of_median: FLOAT, of_bound: FLOAT, threshold: FLOAT, above: INT }), // since version 6
};
const RECEIPT = {
  schema: TEXT,
  input: { digest: TEXT, shape: listOf(INT), low: FLOAT, step: FLOAT, high: FLOAT, units: TEXT },
  model: { name: TEXT, version: TEXT, digest: TEXT, runtime: TEXT },
  noise: {
    stream: TEXT, charge: FLOAT, key: TEXT, key_id: TEXT, start: INT, stop: INT, sigma: later(FLOAT), norm: later(TEXT),
    law: later(TEXT), parameters: later(listOf({ name: TEXT, value: FLOAT })),
  },
  alpha: FLOAT,
  split: { of_class: FLOAT, of_upper: FLOAT, of_threshold: FLOAT, of_interval: FLOAT, of_joint: later(FLOAT), of_confidence: later(FLOAT) },
  procedure: {
    name: TEXT, target_radius: maybe(FLOAT), max_draws: INT, stop_reason: TEXT, radius_tolerance: later(FLOAT), menu_size: later(INT),
    target: BALL,
  },
  votes: listOf(INT),
  lost: INT,
  scores: maybe(SCORES),
  robust_weight: maybe(FLOAT),
  claims: CLAIMS,
  prior: later({ atoms: listOf(FLOAT), weights: listOf(FLOAT) }), // since version 5
  joint: later({ threshold: FLOAT, votes: listOf(INT) }), // this and the next two since version 6
  confidence: later({ thresholds: listOf(FLOAT), reached: listOf(INT) }),
  two_sided: later("true or false"),
};
const SIGNATURE = { algorithm: TEXT, key_id: TEXT, value: TEXT };

/** A document has not the form of a receipt; the message begins with the field. */
export class FormError extends Error {}

/**
 * The receipt and the signature in a document of `parseStrictly`, and the signed text. Whole numbers are BigInt, doubles
 * Number, and what is absent is null.
 */
export function read(document) {
  if (!(document instanceof Map) || document.size !== 2 || !document.has("receipt") || !document.has("signature")) {
    throw new FormError("expected an object of receipt and signature: the value of an answer's field receipt");
  }
  const signature = record(SIGNATURE, document.get("signature"), "signature");
  checkVersion(document.get("receipt"));
  const receipt = record(RECEIPT, document.get("receipt"), "");
  return { receipt, signature, text: canonical(document.get("receipt")) };
}

/** The version of a receipt's schema, from 1. */
export const version = ({ schema }) => VERSIONS.indexOf(schema) + 1;

function checkVersion(receipt) {
  const schema = receipt instanceof Map ? receipt.get("schema") : undefined;
  if (VERSIONS.includes(schema)) return;
  throw new FormError(`schema: this page knows the versions ${VERSIONS[0]} to ${VERSIONS.at(-1)}, not “${String(schema).slice(0, 80)}”`);
}

function record(fields, value, place) {
  if (!(value instanceof Map)) throw new FormError(`${place || "receipt"}: expected an object`);
  const below = (name) => (place ? `${place}.${name}` : name);
  for (const name of value.keys()) if (!Object.hasOwn(fields, name)) throw new FormError(`${below(name)}: unknown field`);
  const found = {};
  for (const [name, kind] of Object.entries(fields)) {
    if (value.has(name)) found[name] = one(kind, value.get(name), below(name));
    else if (kind.later) found[name] = null;
    else throw new FormError(`${below(name)}: missing field`);
  }
  return found;
}

function one(kind, value, place) {
  if (kind.maybe) return value === null ? null : one(kind.maybe, value, place);
  if (kind.later) return one(kind.later, value, place);
  if (kind.listOf) {
    if (!Array.isArray(value)) throw new FormError(`${place}: expected a list`);
    return value.map((each, i) => one(kind.listOf, each, `${place}[${i}]`));
  }
  if (typeof kind === "object") return record(kind, value, place);
  if (kind === FLOAT && typeof value === "string") {
    const number = double(value);
    if (number !== null) return number;
  } else if ((kind === INT && typeof value === "bigint") || (kind === TEXT && typeof value === "string")) return value;
  else if (kind === "true or false" && typeof value === "boolean") return value;
  throw new FormError(`${place}: expected ${kind}`);
}

const NORMAL = /^(-?)0x1\.([0-9a-f]{13})p(\+0|[+-][1-9][0-9]{0,3})$/;
const SUBNORMAL = /^(-?)0x0\.([0-9a-f]{13})p-1022$/;

/** The double of a hexadecimal text; null for another spelling, and for what is none. */
export function double(text) {
  const whole = { inf: Infinity, "-inf": -Infinity, "0x0.0p+0": 0, "-0x0.0p+0": -0 };
  if (Object.hasOwn(whole, text)) return whole[text];
  const [normal, subnormal] = [NORMAL.exec(text), SUBNORMAL.exec(text)];
  const [, sign, digits, exponent] = normal ?? subnormal ?? [];
  if (digits === undefined) return null;
  const biased = normal ? Number(exponent) + 1023 : 0;
  const fraction = BigInt(`0x${digits}`);
  if (normal ? biased < 1 || biased > 2046 : fraction === 0n) return null;
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, (sign ? 1n << 63n : 0n) | (BigInt(biased) << 52n) | fraction);
  return view.getFloat64(0);
}

/** The canonical text of a document. */
function canonical(value) {
  if (value instanceof Map) {
    const names = [...value.keys()].sort();
    return `{${names.map((name) => `${quoted(name)}:${canonical(value.get(name))}`).join(",")}}`;
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  return typeof value === "string" ? quoted(value) : String(value);
}

const MARKS = { '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b" };
const quoted = (text) =>
  `"${text.replace(/["\\]|[^ -~]/g, (unit) => MARKS[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)}"`;
