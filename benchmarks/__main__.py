"""All of it: one command, one table, a picture each, in `benchmarks/out`."""

from __future__ import annotations

import importlib
import sys
import time

from benchmarks.measure import OUT, Row, machine, save, table

NAMES = ("noise", "engine", "throughput", "latency", "draws", "fairness", "overload", "published", "client_side")


def main() -> None:
    chosen, sys.argv[1:] = sys.argv[1:] or list(NAMES), []
    where, found, began = machine(), [], time.monotonic()
    for name in chosen:
        print(f"--- {name}, {time.monotonic() - began:.0f} s so far", file=sys.stderr, flush=True)
        rows: list[Row] = importlib.import_module(f"benchmarks.{name}").rows()
        save(name, rows)
        found += rows
    text = f"{table(found)}\n\n{where}; {time.monotonic() - began:.0f} s in all.\n"
    (OUT / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
