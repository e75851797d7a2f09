"""What is remembered of keys, against a model that forgets nothing by mistake."""

from __future__ import annotations

import datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bulkhead_trio.database.tenants import KeyRecord, TenantRecord
from bulkhead_trio.tenancy._lookup_rules import (
    KEPT_SECONDS,
    LONGEST_SECONDS,
    UNKNOWN_SECONDS,
    Caller,
    Lookup,
    Lookups,
    Watch,
)

MOST = 3
NOON = datetime.datetime(2026, 2, 11, 12, tzinfo=datetime.UTC)

KEYS = st.sampled_from("abcdef")
TENANTS = st.sampled_from("TU")


def lookup(key_id: str, tenant_id: str, read_at: float, watch: Watch | None = None) -> Lookup:
    tenant = TenantRecord(tenant_id, "n", "free", True, None, 1, 1, NOON, NOON)
    key = KeyRecord(key_id, tenant_id, b"", NOON, None, None)
    return Lookup(key, Caller(tenant, key_id), read_at, watch)


def test_lookup_holds_for_its_time() -> None:
    """Five seconds from the reading; a second for what is not there."""
    known, unknown = lookup("a", "T", 100), Lookup(None, None, 100)
    assert known.is_good(100 + KEPT_SECONDS - 0.01)
    assert not known.is_good(100 + KEPT_SECONDS)
    assert unknown.is_good(100 + UNKNOWN_SECONDS - 0.01)
    assert not unknown.is_good(100 + UNKNOWN_SECONDS)


def test_lookup_that_a_feed_vouches_for_holds_longer() -> None:
    """Five seconds from the last word of the feed, and five minutes at most."""
    watch = Watch()
    known = lookup("a", "T", 100, watch)
    assert not known.is_good(100 + KEPT_SECONDS)
    watch.heard_at = 200
    assert known.is_good(200 + KEPT_SECONDS - 0.01)
    assert not known.is_good(200 + KEPT_SECONDS)
    watch.heard_at = 1000
    assert not known.is_good(100 + LONGEST_SECONDS)


class Remembering(RuleBasedStateMachine):
    """Two shelves, each first in first out, and what is dropped is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups = Lookups(MOST)
        self.known: dict[str, Lookup] = {}
        self.unknown: dict[str, Lookup] = {}

    @rule(key_id=KEYS, tenant_id=TENANTS)
    def keep(self, key_id: str, tenant_id: str) -> None:
        self.forget(key_id)
        found = lookup(key_id, tenant_id, 0)
        self.lookups.keep(key_id, found)
        self.known[key_id] = found
        self.known = dict(list(self.known.items())[-MOST:])

    @rule(key_id=KEYS)
    def keep_unknown(self, key_id: str) -> None:
        self.forget(key_id)
        found = Lookup(None, None, 0)
        self.lookups.keep(key_id, found)
        self.unknown[key_id] = found
        self.unknown = dict(list(self.unknown.items())[-MOST:])

    @rule(key_id=KEYS)
    def drop(self, key_id: str) -> None:
        self.lookups.drop(key_id)
        self.forget(key_id)

    @rule(tenant_id=TENANTS)
    def drop_tenant(self, tenant_id: str) -> None:
        self.lookups.drop_tenant(tenant_id)
        for key_id, found in list(self.known.items()):
            if found.caller is not None and found.caller.tenant.id == tenant_id:
                self.forget(key_id)

    def forget(self, key_id: str) -> None:
        self.known.pop(key_id, None)
        self.unknown.pop(key_id, None)

    @invariant()
    def is_as_the_model(self) -> None:
        for key_id in "abcdef":
            expected = self.known.get(key_id) or self.unknown.get(key_id)
            assert self.lookups.look(key_id, 0.5) is expected
        assert len(self.lookups) == len(self.known) + len(self.unknown)
        ids = {each.caller.tenant.id for each in self.known.values() if each.caller is not None}
        for tenant_id in "TU":
            tenant = self.lookups.tenant(tenant_id)
            assert (tenant is not None) == (tenant_id in ids)
        assert set(self.lookups._by_tenant) == ids


TestRemembering = Remembering.TestCase
TestRemembering.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
