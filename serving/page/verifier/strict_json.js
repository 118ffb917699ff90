// JSON as receipts need it: no key twice, whole numbers kept whole whatever their size, and apart from other numbers.
//
// Objects become maps, whole numbers BigInt, numbers with a fraction or an exponent Number.

const DEEPEST = 200;
const MOST_DIGITS = 4300;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const TEXT = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\n\r]*/y;
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

/** The value of a JSON text. Throws an `Error` that says what is wrong. */
export function parseStrictly(text) {
  const reader = new Reader(text);
  const value = reader.value(0);
  reader.space();
  if (reader.at < text.length) throw new Error(`something follows the JSON document, at character ${reader.at}`);
  return value;
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found;
  }

  space() {
    this.match(SPACE);
  }

  take(mark) {
    const found = this.text.startsWith(mark, this.at);
    if (found) this.at += mark.length;
    return found;
  }

  expect(mark) {
    if (!this.take(mark)) throw new Error(`expected ${mark} at character ${this.at}`);
  }

  value(depth) {
    if (depth > DEEPEST) throw new Error("it is nested too deeply");
    this.space();
    if (this.take("{")) return this.object(depth);
    if (this.take("[")) return this.array(depth);
    if (this.take('"')) return this.string();
    for (const [word, meaning] of [["true", true], ["false", false], ["null", null]]) if (this.take(word)) return meaning;
    return this.number();
  }

  object(depth) {
    const found = new Map();
    this.space();
    if (this.take("}")) return found;
    do {
      this.space();
      this.expect('"');
      const key = this.string();
      if (found.has(key)) throw new Error("an object names a field twice");
      this.space();
      this.expect(":");
      found.set(key, this.value(depth + 1));
      this.space();
    } while (this.take(","));
    this.expect("}");
    return found;
  }

  array(depth) {
    const found = [];
    this.space();
    if (this.take("]")) return found;
    do {
      found.push(this.value(depth + 1));
      this.space();
    } while (this.take(","));
    this.expect("]");
    return found;
  }

  string() {
    let found = "";
    for (;;) {
      found += this.match(TEXT)[0];
      if (this.take('"')) return found;
      this.expect("\\");
      const mark = this.text[this.at++];
      if (mark === "u") found += this.unit();
      else if (mark in ESCAPES) found += ESCAPES[mark];
      else throw new Error(`unknown escape at character ${this.at}`);
    }
  }

  unit() {
    const digits = this.text.slice(this.at, this.at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw new Error(`expected four hexadecimal digits at character ${this.at}`);
    this.at += 4;
    return String.fromCharCode(parseInt(digits, 16));
  }

  number() {
    const found = this.match(NUMBER);
    if (!found) throw new Error(`expected a value at character ${this.at}`);
    if (found[1] !== undefined || found[2] !== undefined) return Number(found[0]);
    if (found[0].length > MOST_DIGITS) throw new Error("a number has too many digits");
    return BigInt(found[0]);
  }
}
