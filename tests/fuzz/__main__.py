"""The long run: `python -m tests.fuzz [PARSER ...] [--seconds 600]`, each parser guided by coverage in its own process.

A crash, a hang of ten seconds or more than 2 GiB ends it with the input that did it, in `fuzz-findings/`. What reaches code
that nothing in the corpus reached is kept in `fuzz-corpus/`, to be looked through for the committed corpora.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

_ONE = "from tests.fuzz.__main__ import fuzz; fuzz()"


def fuzz() -> None:
    """One parser, in this process; its name is the first argument, libFuzzer's follow."""
    import atheris

    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["certify", "export", "serving"], enable_loader_override=False):
        from tests.fuzz.targets import tried
    atheris.Setup(sys.argv, lambda data: tried(name, data) and None)
    atheris.Fuzz()


def main() -> int:
    """All that are asked for, one after the other; how many executions each had."""
    from tests.fuzz.seeds import CORPORA, seeds
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("parsers", nargs="*", choices=[[], *TARGETS], default=[])
    parser.add_argument("--seconds", type=int, default=600)
    given = parser.parse_args()
    failed = 0
    for name in given.parsers or TARGETS:
        kept, findings = Path("fuzz-corpus") / name, Path("fuzz-findings")
        kept.mkdir(parents=True, exist_ok=True)
        findings.mkdir(exist_ok=True)
        for place, data in enumerate(seeds()[name]):
            (kept / f"seed-{place}").write_bytes(data)
        limits = [f"-max_total_time={given.seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536"]
        command = [
            sys.executable,
            "-c",
            _ONE,
            name,
            *limits,
            f"-artifact_prefix={findings}/{name}-",
            "-print_final_stats=1",
        ]
        began = time.monotonic()
        done = subprocess.run([*command, str(kept), str(CORPORA / name)], capture_output=True, text=True)
        said = done.stdout + done.stderr
        number = re.search(r"number_of_executed_units: *(\d+)", said)
        memory = re.search(r"peak_rss_mb: *(\d+)", said)
        print(
            f"{name}: {int(number[1]) if number else 0:,} executions in {time.monotonic() - began:.0f} s,"
            f" {memory[1] if memory else '?'} MiB, {'FOUND SOMETHING' if done.returncode else 'nothing found'}",
            flush=True,
        )
        if done.returncode:
            failed += 1
            print(said[-4_000:])
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
