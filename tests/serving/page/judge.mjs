// Judges signed receipts, one JSON line {"text": base64, "key": hex} each, by the verifier in the folder named first; a line of
// {"holds", "differing", "problem"} each.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { register } from "./laws.mjs";

const { verify } = await import(pathToFileURL(`${process.argv[2]}/verify.js`));
await register(process.argv[2]);
for await (const line of createInterface({ input: process.stdin })) {
  const { text, key } = JSON.parse(line);
  const { holds, problem, findings } = verify(Uint8Array.from(Buffer.from(text, "base64")), key);
  const differing = findings.filter((each) => !each.agrees).map((each) => each.field);
  process.stdout.write(`${JSON.stringify({ holds, problem, differing })}\n`);
}
