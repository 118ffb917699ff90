"""Milliseconds from a click on the page's example to the first label that a browser shows, on the bundled model.

Nothing is asserted: the browser shares its processor with the server and whatever else runs. It needs a `chromium`.

python -m benchmarks.first_label
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import machine, percentile
from tests.servers import ROOT, command_line
from tests.serving.page.browser import Tab, tab

CLICKS, EXAMPLES = 48, 8
_CLICK = """
performance.clearMarks();
document.getElementById('said').textContent = '';
document.querySelectorAll('#examples button')[{}].click();
"""
_ANSWERED = "document.getElementById('said').textContent"
_TOOK = "performance.getEntriesByName('labelled')[0].startTime - performance.getEntriesByName('asked')[0].startTime"


async def times(address: str) -> list[float]:
    """Of each click, in the order of the clicks; a click waits for the answer of the one before."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with tab(Path(folder)) as page:
            await page.call("Page.navigate", url=address)
            await page.until("document.querySelectorAll('#examples button').length")
            return [await _first_label(page, click % EXAMPLES) for click in range(CLICKS)]


async def _first_label(page: Tab, example: int) -> float:
    await page.value(_CLICK.format(example))
    await page.until(_ANSWERED)
    return float(await page.value(_TOOK))


def main() -> None:
    print(machine(), flush=True)
    with command_line(ROOT / "models", local=True) as address:
        found = asyncio.run(times(address.http + "/"))
    shares = ", ".join(f"{word} {percentile(found, share):.1f}" for word, share in (("median", 0.5), ("p95", 0.95)))
    print(
        f"first label after a click, {CLICKS} clicks: least {min(found):.1f} ms, {shares}, first of all {found[0]:.1f}"
    )


if __name__ == "__main__":
    main()
