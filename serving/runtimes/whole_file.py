"""A file of a cache, as others may see it: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(place: Path, content: bytes) -> bool:
    """A file that others see whole or not at all, readable by its owner alone; whether it could be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, place)
    except OSError:
        return False
    return True
