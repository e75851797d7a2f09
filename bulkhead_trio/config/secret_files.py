"""Secrets that nobody configured: made at first start, and kept in a file of the data directory."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path


def kept_secret(
    configured: str | None, path: Path, what: str, announce: Callable[[str], None]
) -> str:
    """The configured secret, or the one kept in ``path``, made there at first start (0600)."""
    if configured is not None:
        return configured
    if not path.exists():
        _keep_secret(path, secrets.token_urlsafe(32))
        announce(f"{what} is in {path}")
    return path.read_text().strip()


def _keep_secret(path: Path, secret: str) -> None:
    """Write ``secret`` to ``path`` whole or not at all; whoever came first has decided."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
