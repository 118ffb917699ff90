// The two laws of `tests/contract/laws.py` once more, from their theorems, for the page's verifier: as a law that is new to it.
import { pathToFileURL } from "node:url";

const SLACK = 2 ** -46; // of the formulas there, to the safe side
const MOST = 64;

/** Register both with the verifier in a folder. */
export async function register(verifier) {
  const { LAWS } = await import(pathToFileURL(`${verifier}/laws.js`));
  const { normal, normalQuantile } = await import(pathToFileURL(`${verifier}/special.js`));

  /** All of r given tokens are deleted with probability rate^r, and that is by how much a probability may fall. */
  function deletion(parameters, charge) {
    const rate = parameters.get("rate");
    const known = isOf(parameters, "edits", ["rate", "length"]) && rate > 0 && rate < 1;
    const deleted = (edits) => rate ** edits * (1 - SLACK);
    const farthest = (holds) => {
      let edits = 0;
      while (edits < MOST && holds(edits + 1)) edits++;
      return edits;
    };
    return known && {
      charge, parts: [{ norm: "edits", units: "tokens", whole: true }], reach: [MOST],
      neededToProve: ([edits]) => 1.5 - deleted(edits) + charge + 2 ** -50,
      neededToRefute: ([edits]) => 1.5 - deleted(edits) - charge - 2 ** -50,
      leastIn: (p, [edits], complement = 1 - p) => Math.max(0, deleted(edits) - complement),
      ball: (complement, threshold = 0.5) => [farthest((edits) => deleted(edits) - complement > threshold)],
      radiusAtMost: (p) => farthest((edits) => p > 1.5 - deleted(edits) - charge - 2 ** -50),
      // The one falls by as much as the other may rise.
      lead: (complement, rival, margin = 0) => [farthest((edits) => 2 * deleted(edits) - 1 - complement - rival > margin + 2 ** -50)],
      leadAtMost: (p, rival) => farthest((edits) => Math.min(1, p - 1 + rate ** edits + 2 * SLACK) > Math.min(1, rival + 1 - rate ** edits - 2 * SLACK)),
    };
  }

  /** No changed category is shown with probability `shown`; given that, the other columns bear Gaussian noise of scale 1. */
  function columns(parameters, charge) {
    const names = ["categories", "kept", "changed", ...Array.from({ length: Math.max(0, parameters.size - 4) }, (_, i) => `sigma_${i}`)];
    const [categories, kept, changed, ...scales] = names.map((name) => parameters.get(name));
    const known = isOf(parameters, "l2+categories", names) && [categories, kept, changed, ...scales].every((each) => each >= 1);
    if (!known || kept + changed > categories) return null;
    const shownOf = (others) => {
      if (others > categories) throw new Error("a ball of more categories than there are");
      let share = 1;
      for (let i = 0; i < kept; i++) share *= Math.max(0, categories - others - i) / (categories - i);
      return share;
    };
    const needed = ([radius, others], side) => {
      const shown = shownOf(others);
      const inside = shown ? (0.5 / shown) * (1 + side * SLACK) : 1;
      if (inside >= 1) return side > 0 ? 2 : 1;
      return 1 - shown + shown * normal(normalQuantile(inside) + radius) + side * (charge + SLACK);
    };
    const [shown, whole] = [shownOf(changed), (size) => (size > 0 ? [size, changed] : [0, 0])];
    return {
      charge, parts: [{ norm: "l2", units: "sigmas", whole: false }, { norm: "categories", units: "columns", whole: true }], reach: [8, changed],
      neededToProve: (ball) => needed(ball, 1),
      neededToRefute: (ball) => needed(ball, -1),
      leastIn: (p, [radius, others], complement = 1 - p) => {
        const inside = complement / shownOf(others);
        return inside < 1 ? shownOf(others) * normal(-normalQuantile(inside) - radius) : 0;
      },
      ball: (complement, threshold = 0.5) => {
        const [inside, above] = [(complement / shown) * (1 + SLACK), (threshold / shown) * (1 + SLACK)];
        return whole(Math.max(inside, above) < 1 ? -normalQuantile(inside) - normalQuantile(above) : 0);
      },
      radiusAtMost: (p) => {
        const [inside, above] = [((p - 1 + shown) / shown) * (1 + SLACK), (0.5 / shown) * (1 - SLACK)];
        return above < 1 && inside > 0 ? Math.max(0, (inside >= 1 ? Infinity : normalQuantile(inside)) - normalQuantile(above)) : 0;
      },
    };
  }

  Object.assign(LAWS, { "token-deletion": (...given) => deletion(...given) || null, columns });
}

/** Whether the parameters are a norm and these names, each a whole number to 64 or a share. */
function isOf(parameters, norm, names) {
  const fits = (value) => typeof value === "number" && ((value >= 0 && value <= 1) || (Number.isInteger(value) && value >= 0 && value <= MOST));
  return parameters.size === names.length + 1 && parameters.get("norm") === norm && names.every((name) => fits(parameters.get(name)));
}
