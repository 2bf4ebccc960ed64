"""Where things are kept that can be made again: EDGESPARSE_CACHE_DIR, or the user's folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "EDGESPARSE_CACHE_DIR"


def cache_path() -> Path:
    """Return the cache folder, which need not exist."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).absolute() if given else platformdirs.user_cache_path("edgesparse")
