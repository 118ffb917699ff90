// The part of the page that asks for receipts and verifies them in the browser.

import { ask } from "./ask.js";
import { node } from "./answer_view.js";
import { asAsked } from "./inputs.js";
import { verify } from "./verifier/verify.js";

const $ = (id) => document.getElementById(id);

/** Wire the panel up. `current()` gives the page's state, `options()` what is asked for. */
export function receiptPanel({ current, options, trouble }) {
  $("ask-receipt").addEventListener("click", () => askReceipt(current(), options()).catch(trouble));
  $("receipt-file").addEventListener("change", async () => {
    const [file] = $("receipt-file").files;
    if (file) $("receipt").value = await file.text();
  });
  $("verify").addEventListener("submit", (event) => {
    event.preventDefault();
    show(verify($("receipt").value, $("key").value));
  });
}

async function askReceipt({ model, values }, options) {
  if (!values) throw new Error("Ask about an input first, then for its receipt.");
  await ask(model, asAsked(values, model.input), "grid", { ...options, receipt: true }, (kind, row) => {
    if (kind === "final") $("receipt").value = JSON.stringify(row.receipt);
  });
}

function show({ holds, problem, findings }) {
  const differing = findings.filter((each) => !each.agrees);
  $("verified").className = holds ? "good" : "bad";
  $("verified").textContent = holds
    ? "It holds: this key signed the receipt, and its counts prove its claims. (Whether the draws gave these counts, a replay shows.)"
    : `It does not hold: ${problem ?? differing.map((each) => each.field).join(", ")}`;
  $("findings").replaceChildren(
    ...findings.map(({ field, said, found, agrees }) =>
      node("li", agrees ? "" : "differs", `${agrees ? "holds" : "DIFFERS"}: ${field} ${said}${agrees ? "" : ` (here: ${found})`}`),
    ),
  );
  $("findings-box").hidden = !findings.length;
}
