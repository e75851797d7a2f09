"""The directory on scripted tenants: what it remembers, for how long, and what it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from bulkhead_trio.database.changes import Changed, EverythingMayHaveChanged, Heard
from bulkhead_trio.errors import ApiKeyInvalid, DatabaseUnavailable, TenantInactive
from bulkhead_trio.tenancy import Caller, TenantDirectory
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from bulkhead_trio.testing.tenants import PEPPER, ScriptedTenants


async def find(directory: TenantDirectory, key: str) -> Caller:
    """The caller, waited for where that is needed."""
    found = directory.find(key)
    return found if isinstance(found, Caller) else await found


def id_of(key: str) -> str:
    return key.split("_")[1]


@asynccontextmanager
async def running(directory: TenantDirectory) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(directory.run)
        yield
        nursery.cancel_scope.cancel()


class Feed:
    """Vouches for everything, as a feed of changes that is well."""

    def __init__(self, directory: TenantDirectory) -> None:
        self._directory = directory

    async def __call__(self) -> None:
        self._directory.on_change(EverythingMayHaveChanged(trio.current_time()))
        while True:
            self._directory.on_change(Heard(trio.current_time()))
            await trio.sleep(1)


async def test_directory_of_a_thousand_at_once_asks_once(autojump_clock: MockClock) -> None:
    """All who ask first and together are answered by one query; later ones by none."""
    tenants = ScriptedTenants(seconds=0.2)
    key, tenant = tenants.add(tier="pro")
    directory = TenantDirectory(tenants, PEPPER)
    found: list[Caller] = []

    async def ask() -> None:
        found.append(await find(directory, key))

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(ask)
    assert found == [Caller(tenant, id_of(key))] * 1000
    assert tenants.queries == 1
    assert directory.find(key) is found[0], "at once, while it is remembered"
    assert tenants.queries == 1


async def test_directory_answer_holds_for_five_seconds(autojump_clock: MockClock) -> None:
    """With nobody to tell of changes, a revoked key works for five seconds from the query."""
    tenants = ScriptedTenants(seconds=0.1)
    key, _ = tenants.add()
    directory = TenantDirectory(tenants, PEPPER)
    await find(directory, key)
    tenants.revoke(id_of(key))
    await trio.sleep(4.85)
    assert isinstance(directory.find(key), Caller)
    await trio.sleep(0.1)
    with pytest.raises(ApiKeyInvalid):
        await find(directory, key)
    assert tenants.queries == 2


@pytest.mark.parametrize("kind", ["key", "tenant"])
async def test_directory_is_told_of_a_change_and_asks_again(
    autojump_clock: MockClock, kind: str
) -> None:
    """A pushed change counts for the very next request."""
    tenants = ScriptedTenants()
    key, tenant = tenants.add()
    directory = TenantDirectory(tenants, PEPPER)
    await find(directory, key)
    if kind == "key":
        tenants.revoke(id_of(key))
        directory.on_change(Changed("key", id_of(key)))
        with pytest.raises(ApiKeyInvalid):
            await find(directory, key)
    else:
        tenants.change(tenant.id, active=False)
        directory.on_change(Changed("tenant", tenant.id))
        with pytest.raises(TenantInactive):
            await find(directory, key)
    assert tenants.queries == 2


@pytest.mark.parametrize("kind", ["key", "tenant"])
async def test_directory_change_during_a_query_reaches_who_comes_after(
    autojump_clock: MockClock, kind: str
) -> None:
    """An answer that was read before a change is given to nobody who asks after it, nor kept."""
    tenants = ScriptedTenants(seconds=1)
    key, tenant = tenants.add(weight=1)
    directory = TenantDirectory(tenants, PEPPER)
    late: list[Caller] = []

    async def ask_late() -> None:
        await trio.sleep(0.6)
        late.append(await find(directory, key))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(find, directory, key)
        nursery.start_soon(ask_late)
        await trio.sleep(0.5)
        tenants.change(tenant.id, weight=9)
        id_ = id_of(key) if kind == "key" else tenant.id
        directory.on_change(Changed(kind, id_))  # type: ignore[arg-type]
    assert late[0].tenant.weight == 9
    assert (await find(directory, key)).tenant.weight == 9


async def test_directory_of_a_key_that_changes_all_the_time_still_answers(
    autojump_clock: MockClock,
) -> None:
    """It gives up remembering, not answering."""
    tenants = ScriptedTenants(seconds=1)
    key, tenant = tenants.add()
    directory = TenantDirectory(tenants, PEPPER)

    async with trio.open_nursery() as nursery:

        async def change() -> None:
            while True:
                await trio.sleep(0.4)
                directory.on_change(Changed("tenant", tenant.id))

        nursery.start_soon(change)
        assert (await find(directory, key)).tenant == tenant
        nursery.cancel_scope.cancel()
    assert tenants.queries == 1
    assert directory.statistics().known == 0


async def test_directory_with_a_feed_asks_once(autojump_clock: MockClock) -> None:
    """While the feed vouches that nothing has changed, nothing is read again."""
    tenants = ScriptedTenants()
    key, _ = tenants.add()
    directory = TenantDirectory(tenants, PEPPER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Feed(directory))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(100):
            await find(directory, key)
            await trio.sleep(2.9)
        assert tenants.queries == 1
        await trio.sleep(15)
        await find(directory, key)
        assert tenants.queries == 2, "five minutes are the most"
        nursery.cancel_scope.cancel()


async def test_directory_whose_feed_is_lost_is_right_for_five_seconds(
    autojump_clock: MockClock,
) -> None:
    """From the last moment that the feed vouched for; a new feed does not vouch for the past."""
    tenants = ScriptedTenants()
    key, _ = tenants.add()
    directory = TenantDirectory(tenants, PEPPER)
    directory.on_change(EverythingMayHaveChanged(0))
    await find(directory, key)
    await trio.sleep(100)
    directory.on_change(Heard(trio.current_time()))
    await trio.sleep(1)
    tenants.revoke(id_of(key))  # nobody is told
    await trio.sleep(1)
    directory.on_change(EverythingMayHaveChanged(trio.current_time()))
    directory.on_change(Heard(trio.current_time()))
    await trio.sleep(2.99)
    assert isinstance(directory.find(key), Caller)
    directory.on_change(Heard(trio.current_time()))
    await trio.sleep(0.02)
    with pytest.raises(ApiKeyInvalid):
        await find(directory, key)


async def test_directory_without_its_database(autojump_clock: MockClock) -> None:
    """Who is remembered works for the time that holds; then, and for all others, it is away."""
    tenants = ScriptedTenants()
    key, _ = tenants.add()
    stranger, _ = tenants.add()
    directory = TenantDirectory(tenants, PEPPER)
    async with trio.open_nursery() as nursery:
        feed = nursery.cancel_scope
        nursery.start_soon(Feed(directory))
        await trio.testing.wait_all_tasks_blocked()
        await find(directory, key)
        await trio.sleep(20.5)
        feed.cancel()
    tenants.is_away = True
    with pytest.raises(DatabaseUnavailable):
        await find(directory, stranger)
    await trio.sleep(4.4)
    assert isinstance(directory.find(key), Caller)
    await trio.sleep(0.2)
    with pytest.raises(DatabaseUnavailable):
        await find(directory, key)
    tenants.is_away = False
    assert isinstance(await find(directory, key), Caller)


async def test_directory_whose_database_hangs_says_so_in_time(autojump_clock: MockClock) -> None:
    """Nobody waits for ever, and nobody is let in or told that the key is wrong."""
    tenants = ScriptedTenants()
    key, _ = tenants.add()
    directory = TenantDirectory(tenants, PEPPER, lookup_seconds=2)
    tenants.is_hanging = True
    began = trio.current_time()
    with pytest.raises(DatabaseUnavailable):
        await find(directory, key)
    assert trio.current_time() - began == pytest.approx(2)
    assert tenants.asking == 0


async def test_directory_says_the_same_of_every_bad_key(autojump_clock: MockClock) -> None:
    """Malformed, made up, wrong, revoked, deleted: nobody learns which."""
    tenants = ScriptedTenants()
    key, _ = tenants.add()
    other, _ = tenants.add()
    revoked = tenants.add_key(next(iter(tenants.tenants)))
    tenants.revoke(id_of(revoked))
    deleted = tenants.add_key(next(iter(tenants.tenants)))
    del tenants.keys[id_of(deleted)]
    digest = tenants.keys[id_of(key)].digest
    bad = [
        "",
        "x",
        "naïve",
        digest.hex(),
        f"bh_{'0' * 24}_{'A' * 43}",
        f"bh_{id_of(key)}_{'A' * 43}",
        f"bh_{id_of(key)}_{other.split('_', 2)[2]}",
        revoked,
        deleted,
    ]
    directory = TenantDirectory(tenants, PEPPER)
    said = set()
    for each in bad:
        for _ in range(2):
            with pytest.raises(ApiKeyInvalid) as caught:
                await find(directory, each)
            said.add((caught.value.message, caught.value.code))
    assert len(said) == 1
    assert isinstance(await find(directory, key), Caller), "wrong guesses harm nobody"


async def test_directory_of_made_up_keys_asks_nobody(autojump_clock: MockClock) -> None:
    """A flood of invented keys never reaches the database, and no place is taken by them."""
    tenants = ScriptedTenants()
    key, _ = tenants.add()
    directory = TenantDirectory(tenants, PEPPER, most_keys=10)
    await find(directory, key)
    for number in range(1000):
        with pytest.raises(ApiKeyInvalid):
            await find(directory, f"bh_{number:024x}_{'A' * 43}")
    assert tenants.queries == 1
    assert directory.statistics().invented == 1000
    assert directory.statistics().known == 1


async def test_directory_of_wrong_secrets_asks_once(autojump_clock: MockClock) -> None:
    """Guesses at a key that is there are answered from memory."""
    tenants = ScriptedTenants()
    key, _ = tenants.add()
    directory = TenantDirectory(tenants, PEPPER)
    for number in range(100):
        with pytest.raises(ApiKeyInvalid):
            await find(directory, f"bh_{id_of(key)}_{number:043}")
    assert tenants.queries == 1


async def test_directory_of_a_key_that_is_gone_remembers_that_for_a_second(
    autojump_clock: MockClock,
) -> None:
    """One query a second at most, and a key that comes is seen at once when that is told."""
    tenants = ScriptedTenants()
    key, _ = tenants.add()
    record = tenants.keys.pop(id_of(key))
    directory = TenantDirectory(tenants, PEPPER)
    for _ in range(10):
        with pytest.raises(ApiKeyInvalid):
            await find(directory, key)
        await trio.sleep(0.09)
    assert tenants.queries == 1
    tenants.keys[record.id] = record
    await trio.sleep(0.2)
    assert isinstance(await find(directory, key), Caller)


async def test_directory_keeps_no_more_than_it_may(autojump_clock: MockClock) -> None:
    """Whoever was kept longest ago makes room; keys that are gone take nobody's place."""
    tenants = ScriptedTenants()
    keys = [tenants.add()[0] for _ in range(5)]
    gone = [tenants.add()[0] for _ in range(5)]
    for each in gone:
        del tenants.keys[id_of(each)]
    directory = TenantDirectory(tenants, PEPPER, most_keys=3)
    for each in keys:
        await find(directory, each)
    for each in gone:
        with pytest.raises(ApiKeyInvalid):
            await find(directory, each)
    assert directory.statistics().known == 6
    for each in keys[2:]:
        assert isinstance(directory.find(each), Caller)


async def test_directory_two_keys_of_one_tenant_are_both_good(autojump_clock: MockClock) -> None:
    """Rotation: the old one works until it is revoked, which leaves the new one alone."""
    tenants = ScriptedTenants()
    old, tenant = tenants.add()
    new = tenants.add_key(tenant.id)
    directory = TenantDirectory(tenants, PEPPER)
    assert (await find(directory, old)).tenant == (await find(directory, new)).tenant
    tenants.revoke(id_of(old))
    directory.on_change(Changed("key", id_of(old)))
    with pytest.raises(ApiKeyInvalid):
        await find(directory, old)
    assert isinstance(directory.find(new), Caller)


async def test_directory_inactive_tenant_is_told_so_with_a_good_key_only(
    autojump_clock: MockClock,
) -> None:
    """A guess does not learn that there is such a tenant."""
    tenants = ScriptedTenants()
    key, _ = tenants.add(active=False)
    directory = TenantDirectory(tenants, PEPPER)
    with pytest.raises(TenantInactive):
        await find(directory, key)
    with pytest.raises(ApiKeyInvalid):
        await find(directory, f"bh_{id_of(key)}_{'A' * 43}")


async def test_directory_knows_weights(autojump_clock: MockClock) -> None:
    """Of whoever was seen, the newest; 1 for everybody else, and for nobody."""
    tenants = ScriptedTenants()
    key, tenant = tenants.add(weight=3)
    directory = TenantDirectory(tenants, PEPPER)
    assert directory.weight_of(tenant.id) == 1
    await find(directory, key)
    assert directory.weight_of(tenant.id) == 3
    tenants.change(tenant.id, weight=5)
    await find(directory, tenants.add_key(tenant.id))
    assert directory.weight_of(tenant.id) == 5
    assert directory.weight_of(None) == 1
    directory.on_change(Changed("tenant", tenant.id))
    assert directory.weight_of(tenant.id) == 1


async def test_directory_records_uses_now_and_then(autojump_clock: MockClock) -> None:
    """One statement half a minute for all keys, with the moment of each one's last use."""
    tenants = ScriptedTenants()
    first, _ = tenants.add()
    second, _ = tenants.add()
    directory = TenantDirectory(tenants, PEPPER)
    async with running(directory):
        await find(directory, first)
        await trio.sleep(1)
        await find(directory, second)
        await trio.sleep(3)
        directory.find(second)
        assert tenants.used == {}
        await trio.sleep(30)
        assert tenants.used.keys() == {id_of(first), id_of(second)}
        between = tenants.used[id_of(second)] - tenants.used[id_of(first)]
        assert between.total_seconds() == pytest.approx(4, abs=0.5)
        assert directory.statistics().unwritten == 0
        await find(directory, first)
        tenants.is_away = True
        await trio.sleep(31)
        tenants.is_away = False
        await find(directory, first)
        await trio.sleep(31)
        assert tenants.used[id_of(first)] > tenants.used[id_of(second)]


async def test_directory_bad_keys_are_not_used(autojump_clock: MockClock) -> None:
    """A guess at a key does not make it look used."""
    tenants = ScriptedTenants()
    key, _ = tenants.add()
    directory = TenantDirectory(tenants, PEPPER)
    with pytest.raises(ApiKeyInvalid):
        await find(directory, f"bh_{id_of(key)}_{'A' * 43}")
    assert directory.statistics().unwritten == 0


async def test_directory_cancelled_anywhere_leaves_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    """Whoever asked first and went, somebody else gets the answer; no question stays open."""

    async def scenario(point: CancellationPoint) -> None:
        tenants = ScriptedTenants(seconds=0.1)
        key, tenant = tenants.add()
        directory = TenantDirectory(tenants, PEPPER)
        others: list[Caller] = []

        async def ask() -> None:
            others.append(await find(directory, key))

        async with trio.open_nursery() as nursery:
            with point:
                await find(directory, key)
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert others == [Caller(tenant, id_of(key))] * 2
        assert tenants.asking == 0
        assert not directory._readings
        assert directory._flight.statistics().in_flight == 0

    assert await sweep_cancellations(scenario) >= 1


async def test_directory_leader_cancelled_with_others_waiting(autojump_clock: MockClock) -> None:
    """The others are answered, by one more query."""
    tenants = ScriptedTenants(seconds=1)
    key, tenant = tenants.add()
    directory = TenantDirectory(tenants, PEPPER)
    found: list[Caller] = []

    async def ask() -> None:
        found.append(await find(directory, key))

    async with trio.open_nursery() as nursery:
        leader = trio.CancelScope()

        async def lead() -> None:
            with leader:
                await find(directory, key)

        nursery.start_soon(lead)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        leader.cancel()
    assert found == [Caller(tenant, id_of(key))] * 5
    assert tenants.queries == 2
