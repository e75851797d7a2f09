"""Refused connections, which the engine lets wait so that others need not."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from .test_connections import HEAD, SMALL, chosen, everything, serving


@pytest.fixture(autouse=True)
def engine() -> None:
    """The engine alone does this."""
    chosen.set("engine")


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    """Refuses what asks for /no."""
    status = 429 if scope["path"] == "/no" else 200
    headers = [(b"content-length", b"6")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send(SMALL)


NO = b"GET /no HTTP/1.1\r\nHost: test\r\n\r\n"


async def test_connection_that_is_refused_is_read_again_in_its_turn() -> None:
    """Refusals of all together come at their rate, however many ask, and others do not wait."""
    async with serving(refusing, refusals_per_second=20.0, head=5.0) as served:
        began = trio.current_time()
        async with await served.connect() as one, await served.connect() as other:
            for stream in (one, other):
                await stream.send_all(
                    NO * 3 + NO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
                )
            async with await served.connect() as third:
                await third.send_all(HEAD + b"Connection: close\r\n\r\n")
                assert b"200 OK" in await everything(third)
                assert trio.current_time() - began < 0.2
            said = [await everything(stream) for stream in (one, other)]
        assert [answers.count(b"HTTP/1.1 429") for answers in said] == [4, 4]
        assert 0.2 < trio.current_time() - began < 1.5


async def test_connection_that_waits_for_its_turn_notices_that_its_peer_has_gone() -> None:
    """It costs nothing while it waits, and is not waited for."""
    async with serving(refusing, refusals_per_second=0.1, idle=30.0) as served:
        streams = [await served.connect() for _ in range(3)]
        for stream in streams:
            await stream.send_all(NO)
            assert b"429" in await stream.receive_some()
        for stream in streams:
            await trio.aclose_forcefully(stream)
        await served.wait_empty()
