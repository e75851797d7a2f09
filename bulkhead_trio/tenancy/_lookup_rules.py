"""What a directory remembers of keys: whose they are, for how long that holds, and no more. Pure.

An answer holds for `KEPT_SECONDS` after it was read. The feed of changes makes that longer: what
was read while it listened, and has not been told of as changed since, holds as well for
`KEPT_SECONDS` after the last moment up to which the feed has told everything. So nothing is ever
further behind than `KEPT_SECONDS`, and while the feed is well, nothing is read again and again.
"""

from __future__ import annotations

import math
from typing import Final

import attrs
import msgspec

from bulkhead_trio.database.tenant_records import KeyRecord, TenantRecord

KEPT_SECONDS: Final = 5.0
"""How old an answer may be: the contract's limit for a revoked key."""

LONGEST_SECONDS: Final = 300.0
"""The longest that an answer holds whatever the feed says: until then even a change is noticed that
no trigger told of, such as a bulk load with triggers switched off."""

UNKNOWN_SECONDS: Final = 1.0
"""How long a key that is not there is remembered as that."""


class Caller(msgspec.Struct, frozen=True):
    """Who has shown a good key.

    Attributes:
        key_id: of the key.
    """

    tenant: TenantRecord
    key_id: str


@attrs.define(eq=False)
class Watch:
    """One stretch of listening to changes.

    Attributes:
        heard_at: up to when everything has been told.
    """

    heard_at: float = -math.inf


@attrs.frozen(eq=False)
class Lookup:
    """What is known of one key id.

    Attributes:
        key: ``None``: there is no such key.
        caller: who has it; ``None`` where there is no such key.
        read_at: since when that is known.
        watch: under which a change would have been told; ``None``: under none.
    """

    key: KeyRecord | None
    caller: Caller | None
    read_at: float
    watch: Watch | None = None

    def is_good(self, now: float) -> bool:
        """Whether it still holds."""
        if self.key is None:
            return now < self.read_at + UNKNOWN_SECONDS
        if now < self.read_at + KEPT_SECONDS:
            return True
        return (
            self.watch is not None
            and now < self.watch.heard_at + KEPT_SECONDS
            and now < self.read_at + LONGEST_SECONDS
        )


class Lookups:
    """The lookups of at most so many keys, and apart from those, of so many that are not there.

    A flood of keys that are not there has no part in what is known of those that are.

    Args:
        most: keys of either kind; the one kept longest ago makes room.
    """

    __slots__ = ("_by_tenant", "_known", "_most", "_unknown")

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, Lookup] = {}
        self._unknown: dict[str, Lookup] = {}
        self._by_tenant: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)

    def look(self, key_id: str, now: float) -> Lookup | None:
        """What is known of a key id and still holds."""
        found = self._known.get(key_id) or self._unknown.get(key_id)
        return found if found is not None and found.is_good(now) else None

    def tenant(self, tenant_id: str) -> TenantRecord | None:
        """The tenant as it was when one of its keys was looked up, however long ago."""
        callers = (self._known[key_id].caller for key_id in self._by_tenant.get(tenant_id, ()))
        known = [caller.tenant for caller in callers if caller is not None]
        return max(known, key=lambda tenant: tenant.version) if known else None

    def keep(self, key_id: str, lookup: Lookup) -> None:
        """Remember what is known now."""
        self.drop(key_id)
        if lookup.caller is None:
            self._unknown[key_id] = lookup
            if len(self._unknown) > self._most:
                del self._unknown[next(iter(self._unknown))]
            return
        self._known[key_id] = lookup
        self._by_tenant.setdefault(lookup.caller.tenant.id, set()).add(key_id)
        if len(self._known) > self._most:
            self.drop(next(iter(self._known)))

    def drop(self, key_id: str) -> None:
        """Forget a key id."""
        self._unknown.pop(key_id, None)
        found = self._known.pop(key_id, None)
        if found is not None and found.caller is not None:
            tenant_id = found.caller.tenant.id
            keys = self._by_tenant[tenant_id]
            keys.discard(key_id)
            if not keys:
                del self._by_tenant[tenant_id]

    def drop_tenant(self, tenant_id: str) -> None:
        """Forget all keys of a tenant."""
        for key_id in tuple(self._by_tenant.get(tenant_id, ())):
            self.drop(key_id)
