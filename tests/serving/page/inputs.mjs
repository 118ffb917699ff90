// For each JSON line {"input", "row"} what the page does with an input: how it asks about it, the texts that it writes, what it
// reads from them, and an input near it with its distance. The folder named first has the page's modules.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { asAsked, fromText, toText } = await import(pathToFileURL(`${process.argv[2]}/inputs.js`));
const { distance, moved } = await import(pathToFileURL(`${process.argv[2]}/perturb.js`));
for await (const line of createInterface({ input: process.stdin })) {
  const { input, row, wanted } = JSON.parse(line);
  const values = Int32Array.from(row);
  const texts = Object.fromEntries(["values", "grid"].map((form) => [form, toText(values, form, input)]));
  const read = Object.fromEntries(Object.entries(texts).map(([form, text]) => [form, asAsked(fromText(text, form, input), input)]));
  const near = moved(values, input, "noise", wanted, []);
  const said = { asked: asAsked(values, input), texts, read, near: asAsked(near, input), away: distance(values, near, input) };
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
