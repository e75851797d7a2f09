"""Two upstreams, one of which hangs, behind one client.

Run it: ``python docs/examples/http_client.py``. Three seconds of real time; the test runs it on a
virtual clock. The upstreams are small ones on this machine, so that you see the same each time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from bulkhead_trio.errors import BulkheadTrioError, UnknownEndpoint
from bulkhead_trio.http.client import BulkheadHTTPClient


async def weather(stream: trio.SocketStream) -> None:
    """Answers at once, as long as somebody asks."""
    async for _ in stream:
        body = b"24 degrees"
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def news(stream: trio.SocketStream) -> None:
    """Takes a request and never answers."""
    async for _ in stream:
        pass


@asynccontextmanager
async def open_services() -> AsyncIterator[tuple[str, str]]:
    """The URLs of both, for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        urls = []
        for service in (weather, news):
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, service, listeners)
            urls.append(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        yield urls[0], urls[1]
        nursery.cancel_scope.cancel()


async def ask(client: BulkheadHTTPClient, name: str, url: str) -> None:
    """Ask once, and say what came of it."""
    began = trio.current_time()
    try:
        answer = (await client.get(url)).content.decode()
    except BulkheadTrioError as error:
        answer = error.code
    print(f"{name}: {answer} after {trio.current_time() - began:.0f} s")


async def main() -> None:
    """Ask both, the one that hangs more often than its bulkhead allows."""
    async with open_services() as (weather_url, news_url), BulkheadHTTPClient() as client:
        client.configure_endpoint(weather_url, max_connections=10, timeout=1.0)
        client.configure_endpoint(news_url, max_connections=2, timeout=3.0)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(ask, client, "news", f"{news_url}/today")
            await trio.sleep(0.5)
            await ask(client, "news", f"{news_url}/today")
            for _ in range(3):
                await ask(client, "weather", f"{weather_url}/now")
        bulkhead = client.statistics()[news_url].bulkhead
        print(f"news: {bulkhead.completed} asked, {bulkhead.refused} spared")
        connections = client.statistics()[weather_url].client.connections
        print(f"weather: {connections} connection")
        try:
            await client.get("http://elsewhere.example/")
        except UnknownEndpoint as error:
            print(f"elsewhere: {len(error.patterns)} endpoints, and none has it")


if __name__ == "__main__":
    trio.run(main)
