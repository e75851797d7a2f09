"""What programs say of their versions. Pure."""

from __future__ import annotations

import re

_VERSION = re.compile(r"\b\d+(?:\.\d+)+\b")


def version_in(text: str) -> str | None:
    """The first version in what a program printed; ``None`` without one."""
    match = _VERSION.search(text)
    return match[0] if match else None
