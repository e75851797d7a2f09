"""The words in which the database tells of changes; ``migrations/0003_tenants.sql`` says them."""

from __future__ import annotations

import re
from typing import Final, Literal, cast

import msgspec

CHANNEL: Final = "bulkhead_trio_changes"

Kind = Literal["tenant", "key", "route"]

_WORDS: Final = re.compile(r"(tenant|key|route):([0-9a-zA-Z_-]{1,100})")


class Changed(msgspec.Struct, frozen=True):
    """A change is committed: something was made, altered or deleted.

    Attributes:
        kind: what has changed.
        id: of the tenant or the key; for a route, of the tenant whose routes changed.
    """

    kind: Kind
    id: str


def read_change(payload: str) -> Changed | None:
    """What ``payload`` says; ``None`` where it is not about one thing."""
    match = _WORDS.fullmatch(payload)
    return None if match is None else Changed(cast(Kind, match[1]), match[2])
