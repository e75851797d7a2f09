"""Tenants and their keys in memory, which fail and dawdle as they are told."""

from __future__ import annotations

import datetime
import random
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec
import trio

from bulkhead_trio.database.tenants import FoundKey, KeyRecord, TenantRecord
from bulkhead_trio.errors import DatabaseUnavailable
from bulkhead_trio.tenancy.keys import KeyMaker

PEPPER: Final = b"a pepper for tests only"

_EPOCH: Final = datetime.datetime(2026, 2, 11, 12, 0, tzinfo=datetime.UTC)


class ScriptedTenants:
    """Behaves as `bulkhead_trio.database.tenants.TenantStore` does, as far as a directory asks.

    Changes are made by its methods, and seen by whoever asks later; telling a directory of them is
    the test's part.

    Args:
        seconds: what each call takes.

    Attributes:
        tenants: by id.
        keys: by id.
        queries: how many keys were asked for.
        asking: how many of those are under way.
        used: the last uses that were recorded.
        is_away: every call fails.
        is_hanging: no call ever ends.
        clock: what PostgreSQL's clock has beyond Trio's, in seconds.
    """

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.tenants: dict[str, TenantRecord] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.queries = 0
        self.asking = 0
        self.used: dict[str, datetime.datetime] = {}
        self.seconds = seconds
        self.is_away = False
        self.is_hanging = False
        self.clock = 1_000_000.0
        self._random = random.Random(7)  # noqa: S311  keys that open nothing
        self._maker = KeyMaker(PEPPER, randomness=self._random.randbytes)

    def add(self, *, tier: str = "free", **others: Any) -> tuple[str, TenantRecord]:
        """A new tenant, and the text of its first key."""
        number = len(self.tenants) + 1
        tenant = TenantRecord(
            id=str(UUID(int=number)),
            name=f"tenant {number}",
            tier=tier,
            active=True,
            rate_limit=None,
            weight=1,
            version=1,
            created_at=_EPOCH,
            updated_at=_EPOCH,
        )
        tenant = msgspec.structs.replace(tenant, **others)
        self.tenants[tenant.id] = tenant
        return self.add_key(tenant.id), tenant

    def add_key(self, tenant_id: str) -> str:
        """The text of one more key."""
        issued = self._maker.make()
        record = KeyRecord(issued.record.id, tenant_id, issued.record.digest, _EPOCH, None, None)
        self.keys[record.id] = record
        return issued.text

    def change(self, tenant_id: str, **changes: Any) -> None:
        """A tenant is another from now on."""
        tenant = self.tenants[tenant_id]
        self.tenants[tenant_id] = msgspec.structs.replace(
            tenant, version=tenant.version + 1, **changes
        )

    def revoke(self, key_id: str) -> None:
        """A key is good for nothing from now on."""
        self.keys[key_id] = msgspec.structs.replace(self.keys[key_id], revoked_at=_EPOCH)

    async def find_key(self, key_id: str) -> FoundKey | None:
        """The key of that id, good or not, and its tenant, as they are when this is asked."""
        self.queries += 1
        key, read_at = self.keys.get(key_id), trio.current_time() + self.clock
        tenant = None if key is None else self.tenants[key.tenant_id]
        self.asking += 1
        try:
            await self._answer()
        finally:
            self.asking -= 1
        return None if key is None or tenant is None else FoundKey(key, tenant, read_at)

    async def touch_keys(self, used: Mapping[str, datetime.datetime]) -> None:
        """Record when keys were last used."""
        await self._answer()
        self.used.update(used)

    async def _answer(self) -> None:
        if self.is_hanging:
            await trio.sleep_forever()
        await trio.sleep(self.seconds)
        if self.is_away:
            raise DatabaseUnavailable("scripted: away")
