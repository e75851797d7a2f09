"""Bodies pass both ways as they come: no byte lost or doubled, none held back."""

from __future__ import annotations

import hashlib

import pytest
import trio

from bulkhead_trio.testing.upstream import (
    Answer,
    Cut,
    Informational,
    ScriptedUpstreamProcess,
    always,
    generated_blocks,
    generated_digest,
)
from bulkhead_trio.testing.upstream._content import in_pieces

from .._client import NoAnswerError
from .._server import wait_until_answered
from ._gateway import Gateway, Tenant
from ._streaming import open_exchange, stream

SIZES = [0, 1, 65_535, 65_536, 65_537, 1_000_003]


@pytest.fixture
async def tenant(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> Tenant:
    """With one route for everything, to the upstream."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url)
    upstream.forget()  # that is how it was seen that the route is there
    return tenant


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("is_counted", [True, False])
async def test_bodies_pass_both_ways(
    gateway: Gateway,
    upstream: ScriptedUpstreamProcess,
    tenant: Tenant,
    size: int,
    is_counted: bool,
) -> None:
    """By digest at the upstream and at the caller, in pieces of any size."""
    upstream.play(always(Answer(content="mirror")))
    answer = await stream(
        gateway.addresses[0],
        "/x",
        in_pieces(generated_blocks(size), 30_000, is_varied=True),
        size=size if is_counted else None,
        headers=tenant.headers,
    )
    (seen,) = upstream.seen().requests
    assert (seen.is_complete, seen.length, seen.digest) == (True, size, generated_digest(size))
    assert (answer.status, answer.length, answer.digest) == (200, size, generated_digest(size))
    if is_counted:
        assert seen.header("content-length") == str(size)
        assert seen.header("transfer-encoding") is None


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_answers_of_every_framing(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant, framing: str
) -> None:
    """Counted, chunked in odd pieces, or ended by closing."""
    for size in SIZES:
        upstream.play(
            always(
                Answer(
                    size=size,
                    framing=framing,
                    piece_bytes=50_000,
                    is_varied=True,
                )
            )
        )
        answer = await stream(gateway.addresses[0], "/x", [], size=0, headers=tenant.headers)
        assert (answer.length, answer.digest) == (size, generated_digest(size))


async def test_nothing_is_held_back(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """A piece that was sent comes back before the next is sent."""
    upstream.play(always(Answer(content="mirror")))
    fields = {**tenant.headers, "Transfer-Encoding": "chunked"}
    with trio.fail_after(10):
        async with open_exchange(
            gateway.addresses[0], "/x", method="POST", headers=fields
        ) as exchange:
            await exchange.send_chunk(b"first")
            assert (await exchange.head()).status == 200
            assert await exchange.exactly(5) == b"first"
            for number in range(20):
                await exchange.send_chunk(b"%05d" % number)
                assert await exchange.exactly(5) == b"%05d" % number
            await exchange.send_chunk(b"")
            assert await exchange.piece() == b""


async def test_head_of_a_slow_answer_comes_first(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Status and headers do not wait for a body, nor its first piece for the second."""
    upstream.play(always(Answer(body="ab", piece_bytes=1, piece_seconds=1000)))
    with trio.fail_after(5):
        async with open_exchange(gateway.addresses[0], "/x", headers=tenant.headers) as exchange:
            assert (await exchange.head()).status == 200
            assert await exchange.piece() == b"a"


async def test_head_has_no_body(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """But the length that GET would have had."""
    upstream.play(always(Answer(body="hello")))
    answer = await gateway.ask(tenant, "/x", method="HEAD")
    assert (answer.status, answer.header("content-length"), answer.body) == (200, "5", b"")
    assert upstream.seen().requests[0].method == "HEAD"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant, status: int
) -> None:
    """They stay so, and the connection goes on."""
    upstream.play(always(Answer(status=status, headers=(("ETag", '"a"'),))))
    answer = await gateway.ask(tenant, "/x")
    assert (answer.status, answer.body, answer.header("etag")) == (status, b"", '"a"')


async def test_trailers_are_dropped(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Both ways; the bodies before them are whole."""
    upstream.play(
        always(Answer(content="mirror", framing="chunked", trailers=(("X-Trailer", "1"),)))
    )
    fields = {**tenant.headers, "Transfer-Encoding": "chunked"}
    with trio.fail_after(10):
        async with open_exchange(
            gateway.addresses[0], "/x", method="POST", headers=fields
        ) as exchange:
            await exchange.send(b"5\r\nhello\r\n0\r\nX-Mine: 1\r\n\r\n")
            answer = await exchange.rest(await exchange.head())
    assert answer.digest == hashlib.sha256(b"hello").hexdigest()
    (seen,) = upstream.seen().requests
    assert (seen.length, seen.trailers) == (5, ())


async def test_client_that_waits_to_continue_is_told(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Then it sends its body, and gets its answer."""
    fields = {**tenant.headers, "Expect": "100-continue", "Content-Length": "5"}
    with trio.fail_after(10):
        async with open_exchange(
            gateway.addresses[0], "/x", method="POST", headers=fields
        ) as exchange:
            head: list[int] = []

            async def read() -> None:
                head.append((await exchange.head()).status)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)

                async def is_told() -> bool:
                    return exchange.informational == [100]

                await wait_until_answered(is_told, "100 Continue")
                await exchange.send(b"hello")
            assert head == [200]
    assert upstream.seen().requests[0].length == 5


async def test_informational_answers_do_no_harm(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """However many come before the answer."""
    early = tuple(Informational(status=status) for status in (102, 103, 103))
    upstream.play(always(Answer(body="late", informational=early)))
    answer = await gateway.ask(tenant, "/x")
    assert (answer.status, answer.body) == (200, b"late")


async def test_early_answer_is_passed_on(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """An upstream that has seen enough need not read the rest."""
    upstream.play(always(Answer(status=413, body="too much", reading="never")))
    size = 20_000_000
    answer = await stream(
        gateway.addresses[0], "/x", generated_blocks(size), size=size, headers=tenant.headers
    )
    assert (answer.status, answer.length) == (413, 8)


async def test_client_that_goes_away_takes_its_request_with_it(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Amid its own body, before the answer, and amid the answer."""
    upstream.play(
        always(
            Answer(),
            Answer(gate="never"),
            Answer(size=100_000_000, piece_seconds=0.05),
        )
    )
    half = {**tenant.headers, "Content-Length": "100000"}
    async with open_exchange(gateway.addresses[0], "/1", method="POST", headers=half) as exchange:
        await exchange.send(b"hello")
        await _wait_for(upstream, ["open"])
    await _wait_for(upstream, ["gone"])
    async with open_exchange(gateway.addresses[0], "/2", headers=tenant.headers):
        await _wait_for(upstream, ["gone", "open"])
    await _wait_for(upstream, ["gone"] * 2)
    async with open_exchange(gateway.addresses[0], "/3", headers=tenant.headers) as exchange:
        await exchange.head()
    await _wait_for(upstream, ["gone"] * 3)


async def _wait_for(upstream: ScriptedUpstreamProcess, outcomes: list[str]) -> None:
    async def holds() -> bool:
        return [request.outcome for request in upstream.seen().requests] == outcomes

    await wait_until_answered(holds, f"{outcomes}")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_answer_that_is_cut_short_ends_short(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant, framing: str, how: str
) -> None:
    """The caller can tell that it was cut: never a body that looks whole."""
    cut = Cut(after_bytes=70_000, how=how)
    upstream.play(always(Answer(size=100_000, framing=framing, cut=cut)))
    with pytest.raises(NoAnswerError):
        await gateway.ask(tenant, "/x")
