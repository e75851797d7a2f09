"""Three servers as one Redis Cluster: every key is asked for where it is."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trio

from bulkhead_trio.gateway.group_settings import BreakerSettings
from bulkhead_trio.policies.breaker import BreakerOutcome
from bulkhead_trio.state import SharedState
from bulkhead_trio.state._address_rules import SLOTS, slot_of
from bulkhead_trio.state._commands import Command
from bulkhead_trio.testing.redis import RedisServer

from .conftest import eventually, sharing

BUS = 10_000
"""What the cluster's own port is above the other."""


def free_ports(count: int) -> list[int]:
    """Ports of which the one for the cluster's bus is free as well."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1] % 20_000 + 20_000
            try:
                for each in (port, port + BUS):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", each))
            except OSError:
                continue
            found.append(port)
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    """Three nodes, a third of the slots each."""
    with ExitStack() as stack:
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
        nodes = [stack.enter_context(RedisServer(port, options=options)) for port in free_ports(3)]
        for number, node in enumerate(nodes):
            slots = range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
            node.command("CLUSTER", "ADDSLOTS", *map(str, slots))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            node.command("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port))
        yield nodes


@pytest.fixture
async def ready_cluster(cluster: list[RedisServer]) -> list[RedisServer]:
    """Once all of them know all slots."""
    await eventually(
        lambda: all(
            b"cluster_state:ok" in node.command("CLUSTER", "INFO")
            and node.command("CLUSTER", "NODES").count(b" connected ") == 3
            for node in cluster
        ),
        within=30,
    )
    return cluster


async def test_cluster_is_found_out(ready_cluster: list[RedisServer]) -> None:
    """By asking; there is a connection to every node, and each has its keys."""
    async with sharing(ready_cluster[1].url, 1) as (one,):
        statistics = one.state.statistics()
        assert (statistics.is_cluster, statistics.connections) == (True, 3)
        commands = [Command(b"SET", (b"k%d" % n, b"%d" % n), b"k%d" % n) for n in range(50)]
        assert await one.state.calls(commands) == [b"OK"] * 50
        commands = [Command(b"GET", (b"k%d" % n,), b"k%d" % n) for n in range(50)]
        assert await one.state.calls(commands) == [b"%d" % n for n in range(50)]


async def test_limit_is_exact_over_instances_and_tenants(ready_cluster: list[RedisServer]) -> None:
    """Tenants are all over the cluster, and asked for together."""
    async with sharing(ready_cluster[0].url, 2) as instances:
        allowed = dict.fromkeys((f"tenant-{number}" for number in range(20)), 0)

        async def ask(tenant_id: str) -> None:
            for each in instances:
                for _ in range(4):
                    decision = each.limits.acquire(tenant_id, 5, 60.0)
                    assert inspect.isawaitable(decision)
                    passed = (await decision).allowed
                    allowed[tenant_id] += passed

        async with trio.open_nursery() as nursery:
            for tenant_id in allowed:
                nursery.start_soon(ask, tenant_id)
        assert set(allowed.values()) == {5}
        assert all(each.limits.statistics().without_redis == 0 for each in instances)


async def test_breakers_and_health_are_shared(ready_cluster: list[RedisServer]) -> None:
    """What is published on one node is heard by those connected first to another."""
    key = ("tenant-x", "route", "http://127.0.0.1:1")
    async with (
        sharing(ready_cluster[0].url, 1) as (one,),
        sharing(ready_cluster[2].url, 1) as (two,),
    ):
        here, there = (
            each.breakers.breaker(key, "b", BreakerSettings(cooldown=0.1)) for each in (one, two)
        )
        for _ in range(5):
            permit = here.admit_nowait()
            assert permit is not None
            permit.end(BreakerOutcome.FAILURE)
        await eventually(lambda: not there.is_closed)
        found: list[bool] = []
        two.health.subscribe(lambda _, healthy: found.append(healthy))
        assert await one.health.may_check(key, 5.0)
        one.health.report(key, healthy=False)
        await eventually(lambda: found == [False])


async def test_slot_that_moved_is_followed(ready_cluster: list[RedisServer]) -> None:
    """The first who is told so is sent on, and whoever comes later goes there at once."""
    slot = slot_of(b"moving")
    number = next(n for n in range(3) if slot < SLOTS * (n + 1) // 3)
    source, target = ready_cluster[number], ready_cluster[(number + 1) % 3]
    state = SharedState(ready_cluster[0].url, call_seconds=2.0)
    ids = {
        node.port: node.command("CLUSTER", "MYID").split(b"\r\n")[1].decode()
        for node in ready_cluster
    }
    command = Command(b"INCR", (b"moving",), b"moving")
    async with trio.open_nursery() as nursery:
        await nursery.start(state.run)
        assert await state.call(command) == 1
        target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", ids[source.port])
        source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", ids[target.port])
        source.command("MIGRATE", "127.0.0.1", str(target.port), "moving", "0", "1000")
        assert await state.call(command) == 2, "asked there, though the slot is here still"
        for node in (target, source):
            node.command("CLUSTER", "SETSLOT", str(slot), "NODE", ids[target.port])
        assert await state.call(command) == 3
        assert await state.call(command) == 4
        assert state.statistics().sessions == 1
        nursery.cancel_scope.cancel()


async def test_node_that_stops_is_noticed_and_comes_back(ready_cluster: list[RedisServer]) -> None:
    """Its tenants' calls fail within the limit; all of it is used again once it goes on."""
    state = SharedState(ready_cluster[0].url)
    commands = [Command(b"GET", (b"n%d" % n,), b"n%d" % n) for n in range(30)]
    async with trio.open_nursery() as nursery:
        await nursery.start(state.run)
        await eventually(lambda: state.is_up)
        ready_cluster[1].freeze()
        try:
            began = trio.current_time()
            with pytest.raises(Exception, match="away"):
                await state.calls(commands)
            assert trio.current_time() - began < 0.2
        finally:
            ready_cluster[1].thaw()
        await eventually(lambda: state.is_up)
        await eventually(lambda: b"cluster_state:ok" in ready_cluster[0].command("CLUSTER", "INFO"))
        assert len(await state.calls(commands)) == 30
        nursery.cancel_scope.cancel()


async def test_cluster_is_found_again_by_another_node(ready_cluster: list[RedisServer]) -> None:
    """The one that configuration names may be the one that is gone."""
    options = ["--cluster-enabled", "yes"]
    with RedisServer(free_ports(1)[0], options=options) as named:
        named.command("CLUSTER", "MEET", "127.0.0.1", str(ready_cluster[0].port))
        await eventually(lambda: b"cluster_state:ok" in named.command("CLUSTER", "INFO"), within=30)
        state = SharedState(named.url)
        async with trio.open_nursery() as nursery:
            await nursery.start(state.run)
            await eventually(lambda: state.is_up)
            named.kill()
            await eventually(lambda: state.statistics().sessions == 2)
            commands = [Command(b"GET", (b"n%d" % n,), b"n%d" % n) for n in range(30)]
            await eventually(lambda: state.is_up)
            assert len(await state.calls(commands)) == 30
            nursery.cancel_scope.cancel()
