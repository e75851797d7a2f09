"""200 MB each way, with flat memory."""

from __future__ import annotations

import trio

from bench.machine import resident_bytes
from bulkhead_trio.testing.upstream import (
    Answer,
    ScriptedUpstreamProcess,
    always,
    generated_blocks,
    generated_digest,
)

from ._gateway import Gateway
from ._streaming import Streamed, open_exchange, stream

BIG = 200 * 1000 * 1000
TIMEOUT = {"resilience": {"timeout": {"default": 60_000}}}
MOST_GROWTH = 32 * 1024 * 1024
"""Buffers of sockets, of this process and of the allocator; a tenth of the body would show."""


class Watcher:
    """The most resident memory of a process while a block runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before = self.most = resident_bytes(pid)

    async def watch(self) -> None:
        while True:
            self.most = max(self.most, resident_bytes(self._pid))
            await trio.sleep(0.02)


async def test_upload_of_200_megabytes(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> None:
    """Chunked; the upstream has every byte once."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, **TIMEOUT)
    assert (await gateway.ask(tenant, "/warm", method="POST", body=b"x" * 1_000_000)).status == 200
    upstream.forget()
    watcher = Watcher(gateway.servers[0].process.pid)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.watch)
        answer = await stream(
            gateway.addresses[0],
            "/x",
            generated_blocks(BIG),
            size=None,
            headers=tenant.headers,
            timeout=60,
        )
        nursery.cancel_scope.cancel()
    (seen,) = upstream.seen().requests
    assert answer.status == 200
    assert (seen.length, seen.digest) == (BIG, generated_digest(BIG))
    assert watcher.most - watcher.before < MOST_GROWTH


async def test_download_of_200_megabytes(
    gateway: Gateway, upstream: ScriptedUpstreamProcess
) -> None:
    """To a caller that stalls at first: what it does not read is not hoarded."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, **TIMEOUT)
    upstream.play(always(Answer(size=BIG)))
    watcher = Watcher(gateway.servers[0].process.pid)
    answers: list[Streamed] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.watch)
            async with open_exchange(
                gateway.addresses[0], "/x", headers=tenant.headers
            ) as exchange:
                head = await exchange.head()
                await trio.sleep(0.5)
                answers.append(await exchange.rest(head))
            nursery.cancel_scope.cancel()
    assert (answers[0].length, answers[0].digest) == (BIG, generated_digest(BIG))
    assert watcher.most - watcher.before < MOST_GROWTH
