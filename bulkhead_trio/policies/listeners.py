"""Telling listeners: they hear of what has happened, and can harm nobody by how they take it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

Record = TypeVar("Record")

_log = logging.getLogger("bulkhead_trio.listeners")


def tell(listener: Callable[[Record], None] | None, record: Record) -> None:
    """Hand ``record`` to ``listener``; what it raises is logged and goes no further."""
    if listener is None:
        return
    try:
        listener(record)
    except Exception:  # noqa: BLE001  whatever it is, it is the listener's own trouble
        _log.exception("a listener raised; what it was told of goes on")
