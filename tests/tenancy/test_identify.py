"""Whose a request is: by its key, by the plain header, by both."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import (
    ApiKeyInvalid,
    ApiKeyMissing,
    DatabaseUnavailable,
    TenantInactive,
    TierInvalid,
    TierMissing,
)
from bulkhead_trio.tenancy import ApiKeyGuard, Caller, Identity, TenantDirectory, TierResolver
from bulkhead_trio.testing.tenants import PEPPER, ScriptedTenants

from .test_directory import id_of

TIERS = ("free", "pro")


class Door:
    """A resolver and a guard on scripted tenants."""

    def __init__(self, *, trust_header: bool = True, is_required: bool = False) -> None:
        self.tenants = ScriptedTenants()
        directory = TenantDirectory(self.tenants, PEPPER)
        self.resolver = TierResolver(TIERS, trust_header=trust_header, directory=directory)
        self.guard = ApiKeyGuard(is_required=is_required, directory=directory)

    async def identify(self, *, tier: str | None = None, key: str | None = None) -> Identity:
        found = self.resolver.resolve(tier_header=tier, api_key=key)
        return found if isinstance(found, Identity) else await found


async def test_tier_of_a_key_is_its_tenants(autojump_clock: MockClock) -> None:
    """Whether the plain header is believed or not; at once when it is remembered."""
    for trust_header in (True, False):
        door = Door(trust_header=trust_header)
        key, tenant = door.tenants.add(tier="pro")
        expected = Identity("pro", Caller(tenant, id_of(key)))
        assert await door.identify(key=key) == expected
        assert await door.identify(key=key, tier="pro") == expected
        assert door.resolver.resolve(tier_header=None, api_key=key) == expected


async def test_tier_header_beside_a_key_must_agree(autojump_clock: MockClock) -> None:
    """Another tier, one that is none, or an empty one: the request contradicts itself."""
    door = Door()
    key, _ = door.tenants.add(tier="pro")
    for tier in ("free", "gold", "", "PRO"):
        for _ in range(2):
            with pytest.raises(TierInvalid):
                await door.identify(key=key, tier=tier)


async def test_tier_of_a_bad_key_is_refused_for_the_key(autojump_clock: MockClock) -> None:
    """Whatever the header beside it says: nobody learns a tier by guessing."""
    door = Door()
    inactive, _ = door.tenants.add(active=False)
    for tier in (None, "free", "gold"):
        with pytest.raises(ApiKeyInvalid):
            await door.identify(key="x", tier=tier)
        with pytest.raises(ApiKeyInvalid):
            await door.identify(key="", tier=tier)
        with pytest.raises(TenantInactive):
            await door.identify(key=inactive, tier=tier)


async def test_tier_that_is_configured_no_more_is_invalid(autojump_clock: MockClock) -> None:
    """A tenant in a tier that this server does not have is told so."""
    door = Door()
    key, _ = door.tenants.add(tier="gold")
    with pytest.raises(TierInvalid):
        await door.identify(key=key)


async def test_tier_header_alone_counts_where_it_is_believed() -> None:
    """Otherwise a key is asked for."""
    assert await Door().identify(tier="free") == Identity("free", None)
    for tier, error in ((None, TierMissing), ("", TierMissing), ("gold", TierInvalid)):
        with pytest.raises(error):
            await Door().identify(tier=tier)
    for tier in ("free", "gold", None):
        with pytest.raises(ApiKeyMissing):
            await Door(trust_header=False).identify(tier=tier)


async def test_tier_of_a_key_without_the_database_is_not_guessed(
    autojump_clock: MockClock,
) -> None:
    """Not even where a header would do."""
    door = Door()
    key, _ = door.tenants.add()
    door.tenants.is_away = True
    with pytest.raises(DatabaseUnavailable):
        await door.identify(key=key, tier="free")


async def test_guard_asks_for_a_key_where_it_has_to(autojump_clock: MockClock) -> None:
    """And looks at one that nobody asked for."""
    assert Door().guard.check(None) is None
    door = Door(is_required=True)
    with pytest.raises(ApiKeyMissing):
        door.guard.check(None)
    key, tenant = door.tenants.add()
    asked = door.guard.check(key)
    assert asked is not None
    assert not isinstance(asked, Caller)
    assert (await asked).tenant == tenant
    assert isinstance(door.guard.check(key), Caller)
    with pytest.raises(ApiKeyInvalid):
        Door().guard.check("x")


async def test_nobody_has_a_key_where_there_is_no_directory() -> None:
    """Every key is refused."""
    await trio.lowlevel.checkpoint()
    with pytest.raises(ApiKeyInvalid):
        TierResolver(TIERS, trust_header=True).resolve(tier_header="free", api_key="x")
    with pytest.raises(ApiKeyInvalid):
        ApiKeyGuard(is_required=False).check("x")
