// For each JSON line, a row of an answer, the sentences that the page says of it; the folder named first has the page's modules.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { notClaimed, sentences } = await import(pathToFileURL(`${process.argv[2]}/words.js`));
for await (const line of createInterface({ input: process.stdin })) {
  const row = JSON.parse(line);
  process.stdout.write(`${JSON.stringify({ said: sentences(row, "grey levels"), not: notClaimed(row) })}\n`);
}
