"""The application's tasks of one connection, and how the protocol talks to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

LOOK_SECONDS = 0.25
"""How soon it is noticed that the peer has gone, when the application leaves its body unread."""

Deliver = Callable[[ASGIReceiveEvent], Awaitable[None]]


class Exchanges(TaskGroup):
    """Hypercorn's task group, with a way to the application that cannot be blocked for good.

    Hypercorn's is a bounded channel alone. An application that answers without reading leaves it
    full; the reader then waits to put the next piece of the body, the application's task to put the
    news that the peer has gone, and both wait for each other. Here the news closes the channel,
    which wakes whoever waits; what is in it is still read first.

    Whoever waits for an application to take a body does not read, and so would not notice either
    that the peer has gone. It looks now and then.

    Args:
        has_gone: whether it has.
    """

    def __init__(self, has_gone: Callable[[], bool]) -> None:
        super().__init__()
        self._has_gone = has_gone

    @property
    def is_running(self) -> bool:
        """Whether tasks can be started."""
        return self._nursery is not None

    def cancel_after(self, seconds: float) -> None:
        """Give what still runs ``seconds`` to come to its end."""
        if self._nursery is not None:
            self._nursery.cancel_scope.deadline = trio.current_time() + seconds

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Deliver:
        """Run the application on one request; returns what delivers its messages."""
        put, get = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)

        last: list[ASGIReceiveEvent] = [{"type": "http.disconnect"}]

        async def receive() -> ASGIReceiveEvent:
            try:
                return await get.receive()
            except trio.EndOfChannel:
                return last[0]

        async def deliver(message: ASGIReceiveEvent) -> None:
            if message["type"] in ("http.disconnect", "websocket.disconnect"):
                last[0] = message
                put.close()
                return
            try:
                while True:
                    with trio.move_on_after(LOOK_SECONDS):
                        await put.send(message)
                        return
                    if self._has_gone():
                        put.close()  # the reader finds it out itself as soon as it reads
                        return
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return  # the peer has gone, or the exchange is over: nobody wants it any more

        if self._nursery is None:
            raise RuntimeError("the connection's tasks are not running")
        self._nursery.start_soon(
            _handle,
            app,
            config,
            scope,
            receive,
            send,
            trio.to_thread.run_sync,
            trio.from_thread.run,
        )
        return deliver
