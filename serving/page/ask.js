// Asking the server: what is served, and one input with every event until its answer.

let token = "";

/** From now on requests say who asks, by a bearer token; an empty text says nobody. */
export function identify(text) {
  token = text.trim();
}

/** A refusal of the server, in its own words. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** What is served: a list of models with their labels, inputs, defaults and examples. */
export async function served() {
  const response = await fetch("/page/models", { headers: headers(), cache: "no-store" });
  return (await understood(response)).models;
}

/**
 * Ask about one input. `told(kind, prediction)` is called with "base" at once, with "certificate" as bounds tighten and with
 * "final" at the end; a server that does not stream says "final" alone. `form` is "grid" or "values".
 */
export async function ask(model, instance, form, options, told, signal) {
  const path = `/v1/models/${encodeURIComponent(model.name)}/versions/${encodeURIComponent(model.version)}:predict`;
  const response = await fetch(path, {
    method: "POST",
    headers: headers({ "Content-Type": "application/json", Accept: "text/event-stream, application/json;q=0.5" }),
    body: JSON.stringify({ instances: [instance], input: form, ...options }),
    signal,
    cache: "no-store",
  });
  if (!(response.headers.get("Content-Type") ?? "").startsWith("text/event-stream")) {
    told("final", (await understood(response)).predictions[0]);
    return;
  }
  for await (const [kind, data] of events(response.body)) {
    const said = JSON.parse(data);
    if (kind === "error") throw new Refused(said.error ?? data, said.status);
    told(kind, said.prediction);
  }
}

function headers(more = {}) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function understood(response) {
  let document;
  try {
    document = await response.json();
  } catch {
    throw new Refused(`the server answered ${response.status} with something that is not JSON`, response.status);
  }
  if (!response.ok) throw new Refused(document.error ?? `the server answered ${response.status}`, response.status);
  return document;
}

/** Events of a stream (Server-Sent Events): pairs of kind and data. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r\n\r\n|\n\n|\r\r/);
    rest = parts.pop();
    for (const part of parts) {
      let kind = "message";
      const data = [];
      for (const line of part.split(/\r\n|\n|\r/)) {
        const [, name, text] = /^([^:]*):? ?(.*)$/.exec(line);
        if (name === "event") kind = text;
        else if (name === "data") data.push(text);
      }
      if (data.length) yield [kind, data.join("\n")];
    }
  }
}
