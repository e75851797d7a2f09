"""What psycopg's generators wait for, waited for by Trio.

One ``trio.lowlevel.wait_readable`` is one ``epoll_ctl``: Trio leaves the socket in its epoll and
arms it again. A registration of one's own that stays armed was measured, and saves nothing here:
``docs/database.md``.
"""

from __future__ import annotations

from typing import TypeVar, cast

import trio
from psycopg.abc import PQGen, PQGenConn
from psycopg.waiting import Ready, Wait

RV = TypeVar("RV")

_WAIT_R = Wait.R
_WAIT_W = Wait.W
_READY_R = Ready.R


async def drive(generator: PQGen[RV], fd: int) -> RV:
    """Run a psycopg generator to its end, waiting on ``fd`` as it asks."""
    try:
        wanted = next(generator)
        while True:
            if wanted == _WAIT_R:
                await trio.lowlevel.wait_readable(fd)
                wanted = generator.send(_READY_R)
            else:
                wanted = generator.send(await wait_socket(fd, wanted))
    except StopIteration as stop:
        return cast(RV, stop.value)


async def drive_connecting(generator: PQGenConn[RV]) -> RV:
    """Like `drive`, for generators whose socket may change from step to step."""
    try:
        fd, wanted = next(generator)
        while True:
            fd, wanted = generator.send(await wait_socket(fd, wanted))
    except StopIteration as stop:
        return cast(RV, stop.value)


async def wait_socket(fd: int, wanted: Wait) -> Ready:
    """Wait until ``fd`` is ready for what a psycopg generator asks for."""
    if wanted == _WAIT_R:
        await trio.lowlevel.wait_readable(fd)
        return Ready.R
    if wanted == _WAIT_W:
        await trio.lowlevel.wait_writable(fd)
        return Ready.W
    return await _wait_either(fd)


async def _wait_either(fd: int) -> Ready:
    ready = 0

    async def wait_one(wanted: Wait, scope: trio.CancelScope) -> None:
        nonlocal ready
        ready |= await wait_socket(fd, wanted)
        scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_one, Wait.R, nursery.cancel_scope)
            nursery.start_soon(wait_one, Wait.W, nursery.cancel_scope)
    except BaseExceptionGroup:
        # Cancelled twice, once in each task: whoever drives this looks for it as it is elsewhere.
        await trio.lowlevel.checkpoint_if_cancelled()
        raise
    return Ready(ready)
