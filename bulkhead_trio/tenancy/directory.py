"""Whose an API key is: remembered for seconds, asked of the database once, forgotten when told."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Awaitable, Hashable, Mapping
from typing import Final, Protocol

import attrs
import trio

from bulkhead_trio.database.changes import (
    Changed,
    ChangeEvent,
    EverythingMayHaveChanged,
    Heard,
)
from bulkhead_trio.database.tenants import FoundKey
from bulkhead_trio.errors import ApiKeyInvalid, DatabaseUnavailable, TenantInactive
from bulkhead_trio.policies.single_flight import SingleFlight
from bulkhead_trio.tenancy._key_rules import Digester, is_ours, is_same, key_id_in
from bulkhead_trio.tenancy._lookup_rules import Caller, Lookup, Lookups, Watch
from bulkhead_trio.tenancy._use_rules import Uses
from bulkhead_trio.tenancy.shared import SharedKeyCache, SharedLookups

__all__ = ["Caller", "KeySource", "TenantDirectory", "TenantDirectoryStatistics"]

LOOKUP_SECONDS: Final = 2.0
"""The longest wait for the database to say whose a key is: one row by its primary key."""

FLUSH_SECONDS: Final = 30.0
"""Between two statements that record when keys were last used."""

_log = logging.getLogger("bulkhead_trio.tenancy")


class KeySource(Protocol):
    """Where keys are kept; `bulkhead_trio.database.tenants.TenantStore` has it."""

    async def find_key(self, key_id: str) -> FoundKey | None:
        """The key of that id, good or not, and its tenant, active or not."""

    async def touch_keys(self, used: Mapping[str, datetime.datetime]) -> None:
        """Record when keys were last used."""


@attrs.frozen
class TenantDirectoryStatistics:
    """What a directory holds at one moment, and has counted since it was made.

    Attributes:
        known: key ids that something is known of.
        unwritten: keys whose last use is still to be recorded.
        hits: keys that were answered for from memory.
        lookups: questions to the database.
        shared_hits: answers that another instance had left.
        invented: keys refused without a question, for ids that were never made here.
    """

    known: int
    unwritten: int
    hits: int
    lookups: int
    shared_hits: int
    invented: int


@attrs.define(eq=False)
class _Reading:
    """A question under way, and what was told as changed since it was asked."""

    key_id: str
    changed: set[str] = attrs.field(factory=set)

    def is_outdated_by(self, lookup: Lookup) -> bool:
        """Whether the answer is from before a change, or may be."""
        tenant_id = None if lookup.caller is None else lookup.caller.tenant.id
        return self.key_id in self.changed or tenant_id in self.changed


class TenantDirectory:
    """Says whose API keys are.

    `run` must be running for uses to be recorded and lookups to be shared; `on_change` should be
    told what a `bulkhead_trio.database.changes.ChangeFeed` tells. Without a feed, an answer holds
    for five seconds; with one, for as long as the feed vouches for it, and a change is seen at
    once.

    Args:
        source: where keys are kept.
        pepper: the server's secret; the one that `bulkhead_trio.tenancy.keys.KeyMaker` has.
        shared: what several instances remember together, if there is such a thing.
        most_keys: remembered here.
        lookup_seconds: the longest wait for ``source``.
    """

    def __init__(
        self,
        source: KeySource,
        pepper: bytes,
        *,
        shared: SharedKeyCache | None = None,
        most_keys: int = 50_000,
        lookup_seconds: float = LOOKUP_SECONDS,
    ) -> None:
        self._source = source
        self._pepper = pepper
        self._digest_of = Digester(pepper)
        self._shared = None if shared is None else SharedLookups(shared)
        self._lookup_seconds = lookup_seconds
        self._lookups = Lookups(most_keys)
        self._flight = SingleFlight(name="api keys")
        self._readings: set[_Reading] = set()
        self._watch: Watch | None = None
        self._uses = Uses(most_keys)
        self._hits = 0
        self._queries = 0
        self._shared_hits = 0
        self._invented = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Record uses and share lookups until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._record_uses)
            if self._shared is not None:
                nursery.start_soon(self._shared.run)
            task_status.started()

    def find(self, api_key: str) -> Caller | Awaitable[Caller]:
        """Who has this key: at once where that is remembered, otherwise to be awaited.

        Raises, at once or when awaited:
            ApiKeyInvalid: it is no key, nobody's, or revoked; which of these, nobody is told.
            TenantInactive: the key is good, and its tenant switched off.
            DatabaseUnavailable: it is not remembered, and the database is away.
        """
        key_id = key_id_in(api_key)
        if key_id is None:
            raise _invalid()
        lookup = self._lookups.look(key_id, trio.current_time())
        if lookup is None:
            return self._find(key_id, self._digest_of(api_key))
        self._hits += 1
        return self._admit(lookup, self._digest_of(api_key))

    def weight_of(self, tenant_id: Hashable) -> float:
        """A tenant's weight as last seen; 1 for whoever was not."""
        tenant = self._lookups.tenant(tenant_id) if isinstance(tenant_id, str) else None
        return 1.0 if tenant is None else float(tenant.weight)

    def forget_key(self, key_id: str) -> None:
        """What is known of a key is out of date: the next request asks again."""
        self._lookups.drop(key_id)
        self._flight.forget(key_id)
        self._changed(key_id)

    def forget_tenant(self, tenant_id: str) -> None:
        """What is known of a tenant is out of date: the next request of it asks again."""
        self._lookups.drop_tenant(tenant_id)
        for reading in self._readings:
            # It may be this tenant's: who comes from now on must not wait for an older answer.
            self._flight.forget(reading.key_id)
        self._changed(tenant_id)

    def on_change(self, event: ChangeEvent) -> None:
        """Take note of what a feed of changes tells."""
        match event:
            case Heard(at=at):
                if self._watch is not None:
                    self._watch.heard_at = at
            case Changed(kind="key", id=key_id):
                self.forget_key(key_id)
            case Changed(kind="tenant", id=tenant_id):
                self.forget_tenant(tenant_id)
            case EverythingMayHaveChanged():
                # What is remembered stays for as long as it would have without a feed: a database
                # that comes and goes must not take its tenants with it.
                self._watch = Watch()
                if self._shared is not None:
                    self._shared.doubt_everything()
            case _:
                pass  # a route: no affair of a directory

    def statistics(self) -> TenantDirectoryStatistics:
        """What the directory holds now."""
        return TenantDirectoryStatistics(
            known=len(self._lookups),
            unwritten=len(self._uses),
            hits=self._hits,
            lookups=self._queries,
            shared_hits=self._shared_hits,
            invented=self._invented,
        )

    # --- looking up ------------------------------------------------------------------------------

    async def _find(self, key_id: str, digest: bytes) -> Caller:
        if not is_ours(self._pepper, key_id):
            self._invented += 1
            raise _invalid()
        lookup = await self._flight.call(key_id, self._load, key_id, digest)
        return self._admit(lookup, digest)

    def _admit(self, lookup: Lookup, digest: bytes) -> Caller:
        key, caller = lookup.key, lookup.caller
        if key is None or caller is None or not is_same(key.digest, digest):
            raise _invalid()
        if key.revoked_at is not None:
            raise _invalid()
        if not caller.tenant.active:
            raise TenantInactive("This tenant is not active.")
        self._uses.note(key.id, trio.current_time())
        return caller

    async def _load(self, key_id: str, digest: bytes) -> Lookup:
        """Ask, the other instances first; remember the answer, unless it has changed meanwhile."""
        reading = _Reading(key_id)
        self._readings.add(reading)
        try:
            lookup = await self._read(key_id, digest)
        finally:
            self._readings.discard(reading)
        if not reading.is_outdated_by(lookup):
            self._lookups.keep(key_id, lookup)
        return lookup

    async def _read(self, key_id: str, digest: bytes) -> Lookup:
        if self._shared is not None:
            left = await self._shared.get(key_id, digest)
            if left is not None:
                self._shared_hits += 1
                found, read_at = left
                return Lookup(found.key, Caller(found.tenant, key_id), read_at)
        asked_at, watch = trio.current_time(), self._watch
        self._queries += 1
        with trio.move_on_after(self._lookup_seconds) as scope:
            asked = await self._source.find_key(key_id)
        if scope.cancelled_caught:
            raise DatabaseUnavailable("the database takes too long to say whose the key is")
        if asked is None:
            return Lookup(None, None, asked_at)
        if self._shared is not None:
            self._shared.leave(asked, asked_at=asked_at)
        return Lookup(asked.key, Caller(asked.tenant, key_id), asked_at, watch)

    def _changed(self, id_: str) -> None:
        for reading in self._readings:
            reading.changed.add(id_)
        if self._shared is not None:
            self._shared.doubt(id_)

    # --- recording uses --------------------------------------------------------------------------

    async def _record_uses(self) -> None:
        while True:
            await trio.sleep(FLUSH_SECONDS)
            now = trio.current_time()
            wall_clock = datetime.datetime.now(datetime.UTC)
            used = {
                key_id: wall_clock - datetime.timedelta(seconds=now - at)
                for key_id, at in self._uses.take().items()
            }
            with trio.move_on_after(FLUSH_SECONDS):
                try:
                    await self._source.touch_keys(used)
                except DatabaseUnavailable:
                    _log.info("when keys were last used is not recorded: the database is away")


def _invalid() -> ApiKeyInvalid:
    return ApiKeyInvalid("This API key is not known.")
