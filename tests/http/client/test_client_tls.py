"""TLS: whom it talks to is verified, and nothing of plain HTTP's strictness is lost."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from bulkhead_trio.http.client import ClientLimits, HTTPClient, client_tls_context
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from ._upstream import Talk, answering, assert_at_rest, ok, settled, to_loopback, upstream

CERTIFICATES = Path(__file__).with_name("certificates")


def server_context(certificate: str = "localhost.pem", *alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / certificate)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def trusting() -> ssl.SSLContext:
    context = client_tls_context()
    context.load_verify_locations(CERTIFICATES / "authority.pem")
    return context


@pytest.fixture
async def client() -> AsyncIterator[HTTPClient]:
    """Trusts the tests' authority."""
    async with HTTPClient(resolve=to_loopback, tls_context=trusting()) as client:
        yield client
        assert_at_rest(client)


async def test_encrypted_answer_is_read(client: HTTPClient, autojump_clock: MockClock) -> None:
    """By name and by address; the connection is used again; HTTP/1.1 is agreed on."""
    agreed: list[str | None] = []

    async def behave(talk: Talk) -> None:
        assert isinstance(talk.stream, trio.SSLStream)
        while await talk.request() is not None:
            agreed.append(talk.stream.selected_alpn_protocol())
            await talk.send(ok(b"x" * 200_000))

    tls = server_context("localhost.pem", "h2", "http/1.1")
    async with upstream(behave, tls=tls) as there:
        for _ in range(3):
            assert len((await client.get(there.url)).content) == 200_000
        assert there.connections == 1
        answer = await client.get(f"https://127.0.0.1:{there.port}/")
        assert answer.status == 200
        assert there.connections == 2
    assert agreed == ["http/1.1"] * 4


@pytest.mark.parametrize(
    ("certificate", "host", "trusts", "why"),
    [
        ("localhost.pem", "localhost", False, "verify failed"),
        ("localhost.pem", "elsewhere", True, "Hostname mismatch"),
        ("expired.pem", "localhost", True, "expired"),
    ],
)
async def test_whom_it_does_not_know_it_does_not_talk_to(
    autojump_clock: MockClock, certificate: str, host: str, trusts: bool, why: str
) -> None:
    """Nothing of the request is sent, and it is said why."""
    context = trusting() if trusts else client_tls_context()
    async with HTTPClient(resolve=to_loopback, tls_context=context) as client:
        async with upstream(answering(ok()), tls=server_context(certificate)) as there:
            with pytest.raises(UpstreamUnreachable, match=why):
                await client.get(f"https://{host}:{there.port}/")
            assert_at_rest(client)


async def test_context_is_made_when_it_is_needed() -> None:
    """One that verifies with the system's authorities."""
    async with HTTPClient(resolve=to_loopback) as client:
        async with upstream(answering(ok()), tls=server_context()) as there:
            with pytest.raises(UpstreamUnreachable, match="verify failed"):
                await client.get(there.url)


async def test_plain_http_is_no_tls(client: HTTPClient, autojump_clock: MockClock) -> None:
    """It is named as what it is."""

    async def behave(talk: Talk) -> None:
        await talk.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await trio.sleep_forever()

    async with upstream(behave) as there:
        with pytest.raises(UpstreamUnreachable, match="TLS failed"):
            await client.get(f"https://localhost:{there.port}/")


async def test_handshake_has_a_limit(client: HTTPClient, autojump_clock: MockClock) -> None:
    """It is part of connecting."""

    async def behave(talk: Talk) -> None:
        await trio.sleep_forever()

    async with upstream(behave) as there:
        with pytest.raises(UpstreamTimeout) as failed:
            await client.get(f"https://localhost:{there.port}/")
        assert failed.value.phase == "connect"
        assert trio.current_time() == pytest.approx(5)


@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_encrypted_body_is_sent(
    client: HTTPClient, autojump_clock: MockClock, size: int
) -> None:
    """Bytes of any size, and pieces."""

    async def behave(talk: Talk) -> None:
        while (request := await talk.request()) is not None:
            await talk.send(ok(b"%d" % len(request.body)))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * (size // 10)

    async with upstream(behave, tls=server_context()) as there:
        for content in (b"x" * size, pieces()):
            assert (await client.post(there.url, content=content)).content == b"%d" % size
        assert there.connections == 1


@pytest.mark.parametrize("how", ["close_notify", "fin", "bytes"])
async def test_ended_or_talkative_connection_is_not_used_again(
    client: HTTPClient, autojump_clock: MockClock, how: str
) -> None:
    """Not even for a POST, which could not be sent again."""

    async def behave(talk: Talk) -> None:
        assert isinstance(talk.stream, trio.SSLStream)
        await talk.request()
        await talk.send(ok())
        if how == "close_notify":
            with trio.move_on_after(0.1):
                await talk.stream.unwrap()
        elif how == "bytes":
            await talk.send(ok(b"stolen"))
        if how != "fin":
            await trio.sleep(100)

    async with upstream(behave, tls=server_context()) as there:
        await client.get(there.url)
        await settled()
        assert (await client.post(there.url, content=b"x")).content == b"hello"
        assert there.connections == 2


async def test_limits_hold_under_tls(client: HTTPClient, autojump_clock: MockClock) -> None:
    """Waiting for the head, and for the body."""

    async def behave(talk: Talk) -> None:
        request = await talk.request()
        assert request is not None
        if request.target == "/body":
            await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await trio.sleep_forever()

    async with upstream(behave, tls=server_context()) as there:
        for phase in ("head", "body"):
            began = trio.current_time()
            with pytest.raises(UpstreamTimeout) as failed:
                await client.get(f"{there.url}/{phase}")
            assert failed.value.phase == phase
            assert 30 <= trio.current_time() - began <= 30.11


async def test_body_that_is_cut_off_is_not_whole(
    client: HTTPClient, autojump_clock: MockClock
) -> None:
    """A body that ends with its connection ends with TLS; otherwise anybody could end it."""

    def behaviour(is_clean: bool) -> object:
        async def behave(talk: Talk) -> None:
            assert isinstance(talk.stream, trio.SSLStream)
            await talk.request()
            await talk.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
            await trio.sleep(1)
            if is_clean:
                with trio.move_on_after(0.1):
                    await talk.stream.unwrap()

        return behave

    async with upstream(behaviour(True), tls=server_context()) as there:  # type: ignore[arg-type]
        assert (await client.get(there.url)).content == b"hello"
    async with upstream(behaviour(False), tls=server_context()) as there:  # type: ignore[arg-type]
        with pytest.raises(UpstreamError):
            await client.get(there.url)


async def test_upgrade_under_tls(client: HTTPClient, autojump_clock: MockClock) -> None:
    """The stream stays encrypted."""

    async def behave(talk: Talk) -> None:
        await talk.head()
        await talk.send(b"HTTP/1.1 101 Switching\r\n\r\nwelcome")
        await talk.send(await talk.stream.receive_some())  # type: ignore[arg-type]
        await trio.sleep_forever()

    async with upstream(behave, tls=server_context()) as there:
        headers = [("Connection", "Upgrade"), ("Upgrade", "echo")]
        async with client.request("GET", there.url, headers=headers) as response:
            assert await response.stream.receive_some() == b"welcome"
            await response.stream.send_all(b"hello")
            assert await response.stream.receive_some() == b"hello"


async def test_cancelling_at_any_moment_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """In the handshake too."""
    limits = ClientLimits(connections=1, wait=0)
    context = trusting()
    async with upstream(answering(ok()), tls=server_context()) as there:

        async def scenario(point: CancellationPoint) -> None:
            async with HTTPClient(limits, resolve=to_loopback, tls_context=context) as client:
                with point:
                    for _ in range(2):
                        assert (await client.get(there.url)).content == b"hello"
                assert_at_rest(client)
                assert (await client.get(there.url)).content == b"hello"
                assert_at_rest(client)

        assert await sweep_cancellations(scenario) >= 4
