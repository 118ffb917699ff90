// Verifying a signed receipt: its form, its signature, and every claim from its counts. An independent second to
// `certserve verify`: written from the form of the receipt and the theorems, and sharing no code with it.

import { proven } from "./claims.js";
import { signed } from "./ed25519.js";
import { read } from "./form.js";
import { fromHex, sha256, toHex } from "./hashes.js";
import { isKnown, lawOf } from "./laws.js";
import { contradiction } from "./sense.js";
import { parseStrictly } from "./strict_json.js";

/** How far bounds may be off relatively, and sizes in eighths of the law's reach, which are its sigmas: special functions differ in their last places, from MANY draws
 * on by more. */
const TOLERANCE = 1e-9;
const MANY = 1e6;
const latin = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

/**
 * Judge the JSON text (or UTF-8 bytes) of a signed receipt by a public key of 64 hexadecimal digits. Gives `holds`, a
 * `problem` in words where nothing further can be said (else null), and `findings` of {field, said, found, agrees}.
 */
export function verify(document, key) {
  const findings = [];
  try {
    findings.push(...looked(document, key));
  } catch (error) {
    return { holds: false, problem: error.message, findings };
  }
  return { holds: findings.every((each) => each.agrees), problem: null, findings };
}

function* looked(document, key) {
  const text = typeof document === "string" ? document : new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(document);
  const { receipt, signature, text: canonical } = read(parseStrictly(text));
  if (!isKnown(receipt.noise)) throw new Error(`noise.law: this page knows no law “${receipt.noise.law.slice(0, 80)}”`);
  const field = contradiction(receipt);
  if (field) throw new Error(`${field}: the receipt contradicts itself, or its schema`);
  yield finding("schema", receipt.schema, receipt.schema);
  checkSignature(signature, canonical, key.trim());
  yield finding("signature", signature.key_id, signature.key_id);
  yield* recomputed(receipt);
}

function checkSignature({ algorithm, key_id: id, value }, canonical, key) {
  if (!/^[0-9a-fA-F]{64}$/.test(key)) throw new Error("the public key: expected 64 hexadecimal digits");
  const bytes = fromHex(key.toLowerCase());
  if (algorithm !== "Ed25519") throw new Error("signature.algorithm: expected Ed25519");
  const own = toHex(sha256(Uint8Array.from([...latin("certserve signing key id\0"), ...bytes]))).slice(0, 12);
  if (id !== own) throw new Error(`signature.key_id: the receipt was signed with another key than ${own}`);
  if (!/^[0-9a-f]{128}$/.test(value)) throw new Error("signature.value: expected 128 hexadecimal digits in lower case");
  if (!signed(fromHex(value), latin(`certserve receipt\0${canonical}`), bytes)) {
    throw new Error("signature.value: the receipt was altered, or another key signed it");
  }
}

function* recomputed(receipt) {
  const { claims, noise, procedure, scores } = receipt;
  const found = proven(receipt);
  const off = TOLERANCE * Math.max(1, Number(noise.stop) / MANY);
  const special = { off, units: lawOf(noise).reach.map((size) => size / 8) };
  yield finding("procedure.stop_reason", procedure.stop_reason, found.stop);
  // A certificate that nobody asked for is not in the receipt, though its counts would prove it.
  yield* parts("claims.certificate", claims.certificate, claims.certificate && found.certificate, special);
  yield* parts("claims.mixture", claims.mixture, found.mixture, special);
  if (scores !== null) yield finding("scores.rank", scores.rank, found.rank === null ? null : BigInt(found.rank));
  yield* parts("claims.ood", claims.ood, found.ood, null);
  if (claims.joint !== null) yield* parts("claims.joint", claims.joint, found.joint, special);
  if (claims.confidence !== null) yield* parts("claims.confidence", claims.confidence, found.confidence, special);
}

/** The fields of a claim beside what was found; where they are results of special functions, how far these may be `off`. */
function* parts(place, said, found, special) {
  if (said === null || found === null) return yield finding(place, said && "a claim", found && "a claim");
  for (const name of Object.keys(said)) {
    if (["ball", "robust_alarm"].includes(name) && said[name] === null && found[name] === null) continue; // where there is none
    if (name !== "ball") {
      const unit = special ? ({ radius: special.units[0], lower: 1, lower_at_input: 1 }[name] ?? 0) : 0; // sums lie between 0 and 1
      yield finding(`${place}.${name}`, said[name], found[name], special && [special.off, special.off * unit]);
    } else yield ofBalls(`${place}.ball`, said.ball, found.ball, special);
  }
}

function ofBalls(field, said, found, { off, units }) {
  const shown = (ball) => ball && ball.map(({ norm, size }) => `${norm} ${size}`).join(", ");
  const close = ({ size }, i) => size === found[i].size || near(size, found[i].size, off, off * units[i]);
  return { field, said: shown(said), found: shown(found), agrees: said !== null && found !== null && said.every(close) };
}

function finding(field, said, found, allowed = null) {
  const close = allowed !== null && typeof said === "number" && typeof found === "number" && near(said, found, ...allowed);
  return { field, said, found, agrees: said === found || close };
}

const near = (a, b, relative, absolute) =>
  Number.isFinite(a) && Number.isFinite(b) && Math.abs(a - b) <= Math.max(relative * Math.max(Math.abs(a), Math.abs(b)), absolute);
