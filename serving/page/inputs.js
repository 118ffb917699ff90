// Inputs as integers of the model's grid: of pictures, of typed rows, and on a canvas.

const LARGEST_PICTURE = 64 * 2 ** 20;

/** Height, width and channels of a model's pictures; null where its inputs are rows of numbers. */
export function pictureOf(input) {
  if (input.layout === "features" || input.shape.length !== 3 || input.tops !== 255) return null;
  const [a, b, c] = input.shape;
  const found = input.layout === "CHW" ? { channels: a, height: b, width: c } : { height: a, width: b, channels: c };
  return found.channels === 1 || found.channels === 3 ? found : null;
}

/** The number of column `i`, where there is one for each, and else the number of all. */
const of = (numbers, i) => (Array.isArray(numbers) ? numbers[i] : numbers);

/** The largest integer of the grid in column `i`. */
export function topOf(input, i) {
  return of(input.tops, i);
}

/** An input as requests have it: nested to its shape, and of sound the signed samples. */
export function asAsked(values, input) {
  return nested(Array.from(values, (k) => k - input.zero), input.shape);
}

/** Numbers nested to a shape. */
function nested(flat, shape) {
  if (shape.length <= 1) return Array.from(flat);
  const size = flat.length / shape[0];
  return Array.from({ length: shape[0] }, (_, i) => nested(flat.slice(i * size, (i + 1) * size), shape.slice(1)));
}

/** The integers of a picture file, and in words what was done to it; it is scaled here if its size is another. */
export async function fromPicture(file, input) {
  if (file.size > LARGEST_PICTURE) throw new Error("This file is larger than 64 MiB; choose a smaller picture.");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error("This file is no picture that your browser can read; choose a PNG or JPEG file.");
  }
  const { height, width, channels } = pictureOf(input);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const scaled = bitmap.width !== width || bitmap.height !== height;
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  const scale = Math.min(width / bitmap.width, height / bitmap.height);
  const [w, h] = scaled ? [bitmap.width * scale, bitmap.height * scale] : [width, height];
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  const said = [];
  if (scaled) said.push(`scaled from ${bitmap.width}×${bitmap.height} to ${width}×${height} in your browser`);
  const rgba = context.getImageData(0, 0, width, height).data;
  const [values, grey] = placed(rgba, input, { height, width, channels });
  if (!grey && channels === 1) said.push("made grey");
  return { values, note: said.length ? `The picture was ${said.join(" and ")}; the answer is about what you see here.` : "" };
}

/** The integers of RGBA pixels in the order of the model's layout, and whether they are grey. */
function placed(rgba, input, { height, width, channels }) {
  const values = new Int32Array(height * width * channels);
  let grey = true;
  for (let p = 0; p < height * width; p++) {
    const [r, g, b] = rgba.subarray(4 * p, 4 * p + 3);
    grey &&= r === g && g === b;
    if (channels === 1) values[p] = r === g && g === b ? r : Math.round(0.299 * r + 0.587 * g + 0.114 * b);
    else [r, g, b].forEach((value, c) => (values[placeOf(p, channelOf(c, input), input, { height, width, channels })] = value));
  }
  return [values, grey];
}

/** Where the model has red, green or blue. */
const channelOf = (c, { mode }) => (mode === "BGR" ? 2 - c : c);

/** Where a channel of a pixel lies among the integers. */
const placeOf = (p, channel, { layout }, { height, width, channels }) => (layout === "CHW" ? channel * height * width + p : channels * p + channel);

/** Draw the integers of a picture on a canvas. */
export function draw(canvas, values, input) {
  const { height, width, channels } = pictureOf(input);
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let p = 0; p < height * width; p++) {
    for (let c = 0; c < 3; c++) {
      const channel = channels === 1 ? 0 : channelOf(c, input);
      pixels.data[4 * p + c] = values[placeOf(p, channel, input, { height, width, channels })];
    }
    pixels.data[4 * p + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

/** The integers of a typed row; `form` is "values" (units of the model) or "grid" (integers as requests have them). */
export function fromText(text, form, input) {
  const words = text.trim().split(/[\s,;]+/).filter(Boolean);
  const size = input.shape.reduce((a, b) => a * b, 1);
  if (words.length !== size) throw new Error(`The model takes ${size} numbers; here are ${words.length}.`);
  return Int32Array.from(words, (word, i) => {
    const [low, step, high, top] = [of(input.low, i), of(input.step, i), of(input.high, i), topOf(input, i)];
    const number = Number(word);
    if (!Number.isFinite(number)) throw new Error(`“${word.slice(0, 40)}” is not a number.`);
    const exact = form === "grid" ? number + input.zero : (number - low) / step;
    const integer = Math.round(exact);
    if (integer < 0 || integer > top) {
      const range = form === "grid" ? `${-input.zero} to ${top - input.zero}` : `${low} to ${high}`;
      throw new Error(`${word.slice(0, 40)} is out of range; expected ${range}.`);
    }
    if (Math.abs(exact - integer) > 1e-3) {
      const step = form === "grid" ? "whole numbers" : `steps of ${step} from ${low}`;
      throw new Error(`${word.slice(0, 40)} lies off the grid; expected ${step}.`);
    }
    return integer;
  });
}

/** A row as text that `fromText` reads back. */
export function toText(values, form, input) {
  const value = (k, i) => Number((of(input.low, i) + k * of(input.step, i)).toPrecision(12));
  return Array.from(values, (k, i) => (form === "grid" ? k - input.zero : value(k, i))).join(", ");
}
