// Verifying Ed25519 signatures (RFC 8032, section 5.1.7). Nothing here is secret, so nothing has to take constant time.

import { number, sha512 } from "./hashes.js";

const P = 2n ** 255n - 19n;
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const mod = (a) => ((a % P) + P) % P;

function power(base, exponent) {
  let found = 1n;
  for (; exponent; exponent >>= 1n, base = mod(base * base)) if (exponent & 1n) found = mod(found * base);
  return found;
}

const D = mod(-121665n * power(121666n, P - 2n));
const ROOT_OF_MINUS_ONE = power(2n, (P - 1n) / 4n);
// Points are [X, Y, Z, T] with x = X / Z, y = Y / Z, x y = T / Z.
const ZERO = [0n, 1n, 1n, 0n];
const BASE = decoded(encodedNumber(mod(4n * power(5n, P - 2n))));

function add([x1, y1, z1, t1], [x2, y2, z2, t2]) {
  const a = mod((y1 - x1) * (y2 - x2));
  const b = mod((y1 + x1) * (y2 + x2));
  const c = mod(2n * D * t1 * t2);
  const d = mod(2n * z1 * z2);
  const [e, f, g, h] = [b - a, d - c, d + c, b + a];
  return [mod(e * f), mod(g * h), mod(f * g), mod(e * h)];
}

/** s times one point and k times another, bit by bit together. */
function combined(s, one, k, other) {
  const both = add(one, other);
  let found = ZERO;
  for (let bit = 255n; bit >= 0n; bit--) {
    found = add(found, found);
    const [a, b] = [(s >> bit) & 1n, (k >> bit) & 1n];
    if (a && b) found = add(found, both);
    else if (a) found = add(found, one);
    else if (b) found = add(found, other);
  }
  return found;
}

/** The point that 32 bytes encode; null if they encode none. */
function decoded(bytes) {
  const all = number(Uint8Array.from(bytes).reverse());
  const [sign, y] = [all >> 255n, all & (2n ** 255n - 1n)];
  if (y >= P) return null;
  const [u, v] = [mod(y * y - 1n), mod(D * y * y + 1n)];
  let x = mod(u * power(v, 3n) * power(u * power(v, 7n), (P - 5n) / 8n));
  if (mod(v * x * x) === mod(-u)) x = mod(x * ROOT_OF_MINUS_ONE);
  if (mod(v * x * x) !== u || (x === 0n && sign)) return null;
  if ((x & 1n) !== sign) x = P - x;
  return [x, y, 1n, mod(x * y)];
}

function encodedNumber(value) {
  return Uint8Array.from({ length: 32 }, (_, i) => Number((value >> BigInt(8 * i)) & 255n));
}

function encoded([x, y, z]) {
  const inverse = power(z, P - 2n);
  return encodedNumber(mod(y * inverse) | ((mod(x * inverse) & 1n) << 255n));
}

/** Whether 64 bytes are the signature of a message by the holder of a public key of 32 bytes. */
export function signed(signature, message, key) {
  const [r, s] = [signature.subarray(0, 32), number(Uint8Array.from(signature.subarray(32)).reverse())];
  const point = decoded(key);
  if (point === null || s >= ORDER || signature.length !== 64) return false;
  const [x, y, z, t] = point;
  const hash = sha512(Uint8Array.from([...r, ...key, ...message]));
  const k = number(hash.reverse()) % ORDER;
  const expected = encoded(combined(s, BASE, k, [mod(-x), y, z, mod(-t)]));
  return expected.every((byte, i) => byte === r[i]);
}
