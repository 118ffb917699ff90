// SHA-256 and SHA-512 (FIPS 180-4) of bytes. A page that came by plain HTTP has no cryptography of the browser's own.

/** The first `count` primes. */
function primes(count) {
  const found = [];
  for (let n = 2n; found.length < count; n++) if (found.every((p) => n % p)) found.push(n);
  return found;
}

/** The first `bits` bits behind the point of the n-th root of p, n being 2 or 3. */
function rootBits(p, n, bits) {
  const scaled = p << (n * bits);
  let [low, high] = [0n, 1n << (bits + 5n)];
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (middle ** n <= scaled) low = middle;
    else high = middle;
  }
  return low & ((1n << bits) - 1n);
}

const SHAPES = {
  256: { word: 32n, rounds: 64, big: [[2, 13, 22], [6, 11, 25]], small: [[7, 18, 3], [17, 19, 10]] },
  512: { word: 64n, rounds: 80, big: [[28, 34, 39], [14, 18, 41]], small: [[1, 8, 7], [19, 61, 6]] },
};
for (const shape of Object.values(SHAPES)) {
  const first = primes(shape.rounds);
  shape.constants = first.map((p) => rootBits(p, 3n, shape.word));
  shape.start = first.slice(0, 8).map((p) => rootBits(p, 2n, shape.word));
  for (const name of ["big", "small"]) shape[name] = shape[name].map((each) => each.map(BigInt));
}

/** SHA-256 of bytes, as bytes. */
export const sha256 = (bytes) => hashed(bytes, SHAPES[256]);

/** SHA-512 of bytes, as bytes. */
export const sha512 = (bytes) => hashed(bytes, SHAPES[512]);

function hashed(bytes, { word, rounds, big, small, constants, start }) {
  const size = Number(word) / 8;
  const mask = (1n << word) - 1n;
  const turn = (x, n) => ((x >> n) | (x << (word - n))) & mask;
  const sigma = (x, [a, b, c]) => turn(x, a) ^ turn(x, b) ^ turn(x, c);
  const shifted = (x, [a, b, c]) => turn(x, a) ^ turn(x, b) ^ (x >> c);
  const state = [...start];
  const padded = padding(bytes, size);
  for (let block = 0; block < padded.length; block += 16 * size) {
    const w = Array.from({ length: 16 }, (_, i) => number(padded.subarray(block + i * size, block + (i + 1) * size)));
    for (let i = 16; i < rounds; i++) w[i] = (shifted(w[i - 2], small[1]) + w[i - 7] + shifted(w[i - 15], small[0]) + w[i - 16]) & mask;
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < rounds; i++) {
      const one = h + sigma(e, big[1]) + ((e & f) ^ (~e & mask & g)) + constants[i] + w[i];
      const two = sigma(a, big[0]) + ((a & b) ^ (a & c) ^ (b & c));
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) & mask, c, b, a, (one + two) & mask];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => (state[i] = (state[i] + value) & mask));
  }
  return fromHex(state.map((value) => value.toString(16).padStart(2 * size, "0")).join(""));
}

/** Bytes with a one bit, zeros and their length in bits, to whole blocks. */
function padding(bytes, size) {
  const block = 16 * size;
  const padded = new Uint8Array(Math.ceil((bytes.length + 1 + 2 * size) / block) * block);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  new DataView(padded.buffer).setBigUint64(padded.length - 8, 8n * BigInt(bytes.length));
  return padded;
}

/** The number that bytes are, the largest byte first. */
export const number = (bytes) => BigInt("0x" + (toHex(bytes) || "0"));

/** Bytes in hexadecimal. */
export const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** The bytes of hexadecimal digits. */
export const fromHex = (digits) => Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
