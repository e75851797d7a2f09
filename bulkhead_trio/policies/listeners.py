"""Telling listeners: they hear of what has happened, and can harm nobody by how they take it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

Record = TypeVar("Record")

_log = logging.getLogger("bulkhead_trio.listeners")


def tell(listeners: Iterable[Callable[[Record], None]], record: Record) -> None:
    """Hand ``record`` to each listener; what one raises is logged and goes no further.

    Called when the state has settled: a listener that looks sees what the record says.
    """
    for listener in listeners:
        try:
            listener(record)
        except Exception:  # noqa: BLE001  whatever it is, it is the listener's own trouble
            _log.exception("a listener raised; what it was told of goes on")
