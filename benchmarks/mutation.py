"""How many changes of certify its tests notice: reads `mutmut results --all true`, prints score and survivors.

A survivor whose changed line stands in docs/mutation.md under its function is explained there; it counts as a survivor all
the same. Run by `make mutate`; fails below `LEAST`, and where nothing was run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

LEAST = 0.90
NOTICED = ("killed", "timeout", "segfault", "caught by type check")
_MUTMUT = Path(sys.executable).with_name("mutmut")
EXPLAINED = Path(__file__).parent.parent / "docs" / "mutation.md"


def main() -> int:
    """Print the report; the exit status is 0 where at least `LEAST` of the mutants were noticed."""
    found = [line.strip().rsplit(": ", 1) for line in sys.stdin if ": " in line]
    ran = {name: state for name, state in found if state != "not checked"}
    survivors = [name for name, state in ran.items() if state not in NOTICED]
    reasons = EXPLAINED.read_text()
    for name in survivors:
        function, changed = _function(name), _changed_line(name)
        explained = f"`{function}`: `{changed}`" in reasons
        print(f"{'explained' if explained else 'SURVIVED '}  {name} ({ran[name]})\n           {changed}")
    by_module: dict[str, Counter[bool]] = defaultdict(Counter)
    for name, state in ran.items():
        by_module[name.split(".")[-2]][state in NOTICED] += 1
    for module, counts in sorted(by_module.items()):
        print(f"{module:14} {counts[True]:5} of {counts.total():5}  {counts[True] / counts.total():.1%}")
    score = 1 - len(survivors) / len(ran) if ran else 0.0
    print(f"{'certify':14} {len(ran) - len(survivors):5} of {len(ran):5}  {score:.1%}; {LEAST:.0%} is expected")
    return int(score < LEAST)


def _function(mutant: str) -> str:
    """`certify.bounds.binomial.x__check__mutmut_3` is one of `binomial._check`; `x` and two bars stand before a class."""
    *_, module, name = mutant.split(".")
    return f"{module}." + re.sub(r"^x[_ǁ]|__mutmut_\d+$", "", name).replace("ǁ", ".")


def _changed_line(mutant: str) -> str:
    """What the mutant put in, on one line."""
    shown = subprocess.run([_MUTMUT, "show", mutant], capture_output=True, text=True, check=True).stdout
    added = [line[1:].strip() for line in shown.splitlines() if line.startswith("+") and not line.startswith("+++")]
    return " ".join(added)


if __name__ == "__main__":
    sys.exit(main())
