"""A client of many endpoints: each has its own connections, its own time, and its own bulkhead."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bulkhead_trio.errors import BulkheadFull, QueueTimeout, UnknownEndpoint, UpstreamTimeout
from bulkhead_trio.http.client import BulkheadHTTPClient
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from ._upstream import Talk, answering, ok, to_loopback, upstream


async def silence(talk: Talk) -> None:
    await talk.request()
    await trio.sleep_forever()


def assert_all_at_rest(client: BulkheadHTTPClient) -> None:
    for endpoint in client.statistics().values():
        assert (endpoint.bulkhead.active, endpoint.bulkhead.queued) == (0, 0)
        assert endpoint.client.connections == endpoint.client.idle


async def test_endpoint_that_hangs_sinks_no_other(autojump_clock: MockClock) -> None:
    """Its own requests are refused at once; everybody else's go on."""
    async with upstream(silence) as hanging, upstream(answering(ok())) as good:
        async with BulkheadHTTPClient(resolve=to_loopback) as client:
            client.configure_endpoint(hanging.url, max_connections=2, timeout=5)
            client.configure_endpoint(good.url, max_connections=2, timeout=5)
            failed: list[str] = []

            async def ask() -> None:
                with pytest.raises(UpstreamTimeout) as late:
                    await client.get(hanging.url)
                failed.append(late.value.phase)

            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                with pytest.raises(BulkheadFull):
                    await client.get(hanging.url)
                for _ in range(10):
                    assert (await client.get(good.url)).status == 200
                assert trio.current_time() < 1
            assert failed == ["head", "head"]
            assert trio.current_time() <= 5.2
            statistics = client.statistics()
            assert statistics[hanging.url].bulkhead.refused == 1
            assert statistics[good.url].bulkhead.completed == 10
            assert_all_at_rest(client)


async def test_most_specific_pattern_wins(autojump_clock: MockClock) -> None:
    """Whatever the order in which they were configured."""
    async with upstream(answering(ok())) as there:
        async with BulkheadHTTPClient(resolve=to_loopback) as client:
            patterns = [f"http://*:{there.port}", f"http://*.b.c:{there.port}",
                        f"http://a.b.c:{there.port}", f"http://a.b.c:{there.port}/v1"]  # fmt: skip
            for pattern in patterns:
                client.configure_endpoint(pattern)
            for host, number in (("x", 0), ("x.b.c", 1), ("a.b.c", 2), ("a.b.c", 3)):
                path = "/v1/items?x" if number == 3 else "/v2"
                await client.get(f"http://{host}:{there.port}{path}")
                counts = [client.statistics()[each].bulkhead.completed for each in patterns]
                assert counts == [1] * (number + 1) + [0] * (3 - number)


async def test_unknown_url_is_a_clear_error(autojump_clock: MockClock) -> None:
    """It says what there is; nothing is sent."""
    async with BulkheadHTTPClient(resolve=to_loopback) as client:
        with pytest.raises(UnknownEndpoint, match="none at all"):
            await client.get("http://a/")
        client.configure_endpoint("http://a/v1")
        client.configure_endpoint("https://*.b")
        with pytest.raises(UnknownEndpoint) as unknown:
            client.request("GET", "http://a/v2?secret")
        assert set(unknown.value.patterns) == {"http://a/v1", "https://*.b"}
        assert "http://a/v1" in str(unknown.value)
        assert "secret" not in str(unknown.value)


async def test_waiting_for_a_turn(autojump_clock: MockClock) -> None:
    """As long as the endpoint lets its requests wait."""

    async def slow(talk: Talk) -> None:
        while await talk.request() is not None:
            await trio.sleep(2)
            await talk.send(ok())

    async with upstream(slow) as there:
        async with BulkheadHTTPClient(resolve=to_loopback) as client:
            client.configure_endpoint(there.url, max_connections=1, max_wait=3, max_queued=2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.get, there.url)
                await wait_all_tasks_blocked()
                nursery.start_soon(client.get, there.url)
                await wait_all_tasks_blocked()
                with pytest.raises(QueueTimeout):
                    await client.get(there.url)
            assert there.connections == 1
            assert_all_at_rest(client)


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 3.0), (2.0, 2.0), (9.0, 3.0)])
async def test_shorter_time_counts(
    autojump_clock: MockClock, timeout: float | None, seconds: float
) -> None:
    """The request's own, or the endpoint's."""
    async with upstream(silence) as there:
        async with BulkheadHTTPClient(resolve=to_loopback) as client:
            client.configure_endpoint(there.url, timeout=3)
            with pytest.raises(UpstreamTimeout):
                await client.get(there.url, timeout=timeout)
            assert seconds <= trio.current_time() <= seconds + 0.11


async def test_endpoints_may_be_configured_before(autojump_clock: MockClock) -> None:
    """And the client opened again after it was closed."""
    client = BulkheadHTTPClient(resolve=to_loopback)
    async with upstream(answering(ok())) as there:
        client.configure_endpoint(there.url)
        with pytest.raises(RuntimeError, match="not open"):
            await client.get(there.url)
        for _ in range(2):
            async with client:
                assert (await client.post(there.url, content=b"x")).status == 200
                with pytest.raises(RuntimeError, match="open already"):
                    await client.__aenter__()
        with pytest.raises(RuntimeError, match="not open"):
            await client.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("pattern", "numbers", "word"),
    [
        ("nonsense", {}, "pattern"),
        ("http://a/*", {}, "already"),
        ("HTTP://A", {}, "pattern"),
        ("http://b", {"max_connections": 0}, "connections|max_concurrent"),
        ("http://b", {"timeout": 0}, "timeout"),
        ("http://b", {"max_wait": -1}, "max_wait"),
        ("http://b", {"max_queued": -1}, "max_queued"),
    ],
)
def test_endpoint_that_makes_no_sense_is_refused(
    pattern: str, numbers: dict[str, int], word: str
) -> None:
    """By name; and nothing of it stays."""
    client = BulkheadHTTPClient()
    client.configure_endpoint("http://a")
    with pytest.raises(ValueError, match=word):
        client.configure_endpoint(pattern, **numbers)  # type: ignore[arg-type]
    assert list(client.statistics()) == ["http://a"]


async def test_cancelling_at_any_moment_gives_the_permit_back(autojump_clock: MockClock) -> None:
    """In the bulkhead's line, while asking, and while reading."""

    async def behave(talk: Talk) -> None:
        while await talk.request() is not None:
            await trio.sleep(0.1)
            await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
            await trio.sleep(0.1)
            await talk.send(b"lo")

    async with upstream(behave) as there:

        async def scenario(point: CancellationPoint) -> None:
            async with BulkheadHTTPClient(resolve=to_loopback) as client:
                client.configure_endpoint(there.url, max_connections=1, max_wait=10)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.get, there.url)
                    await wait_all_tasks_blocked()
                    with point:
                        assert (await client.get(there.url)).content == b"hello"
                assert_all_at_rest(client)

        assert await sweep_cancellations(scenario) >= 3
