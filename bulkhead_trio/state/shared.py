"""Everything that one instance shares with others, over one Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from bulkhead_trio.state._keys import instance_word
from bulkhead_trio.state.breakers import BREAKER, SharedBreakers
from bulkhead_trio.state.cache import RedisKeyCache
from bulkhead_trio.state.health import HEALTH, SharedHealthBoard
from bulkhead_trio.state.instances import INSTANCES, Instances
from bulkhead_trio.state.rate import RATE, OnStateError, SharedTenantLimits
from bulkhead_trio.state.redis import CALL_SECONDS, RedisChanged, SharedState


class Shared:
    """The Redis, and all that is kept in it.

    Args:
        url: of Redis, as `SharedState` takes it.
        on_error: what rate limits do while it is away.
        instance_id: of this instance; a new one where none is given.
        call_seconds: hard limit of one call of Redis.
        listeners: told of each `RedisChanged`.
        at_least: how many instances there are in any case, as `Instances` takes it.

    Attributes:
        state: the Redis.
        instances: how many share it.
        limits: of tenants.
        breakers: of upstreams.
        health: of upstreams.
        keys: what is known of API keys.

    Raises:
        ValueError: the URL is none of Redis's, ``instance_id`` is no single word, or a number makes
            no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        on_error: OnStateError,
        instance_id: str | None = None,
        call_seconds: float = CALL_SECONDS,
        listeners: Iterable[Callable[[RedisChanged], None]] = (),
        at_least: int = 1,
    ) -> None:
        name = instance_word(instance_id).decode()
        scripts = (RATE, BREAKER, HEALTH, INSTANCES)
        self.state = SharedState(
            url, name=name, scripts=scripts, call_seconds=call_seconds, listeners=listeners
        )
        self.instances = Instances(self.state, instance_id=name, at_least=at_least)
        self.limits = SharedTenantLimits(
            self.state, on_error=on_error, instances=lambda: self.instances.count
        )
        self.breakers = SharedBreakers(self.state, instance_id=name)
        self.health = SharedHealthBoard(self.state, instance_id=name)
        self.keys = RedisKeyCache(self.state)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all of it until cancelled; has started once Redis was found well, or was not.

        Whoever leaves says so: the connection outlasts the others, by one call's time each.
        """
        holding = trio.CancelScope(shield=True)

        async def hold(*, task_status: trio.TaskStatus[None]) -> None:
            with holding:
                await self.state.run(task_status=task_status)

        async with trio.open_nursery() as ground:
            try:
                await ground.start(hold)
                async with trio.open_nursery() as nursery:
                    for each in (self.instances, self.limits, self.breakers, self.health):
                        await nursery.start(each.run)
                    task_status.started()
            finally:
                holding.cancel()
