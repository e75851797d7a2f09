"""The HTTP client and servers that others have written, as processes of their own."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from bulkhead_trio.errors import UpstreamError, UpstreamUnreachable
from bulkhead_trio.http.client import ClientLimits, HTTPClient

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["method"].encode(), "more_body": True})
    await send({"type": "http.response.body", "body": body})
"""


@contextmanager
def hypercorn(directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Hypercorn with an application that echoes; killed at the end."""
    (directory / "echo.py").write_text(APP)
    command = [sys.executable, "-m", "hypercorn", "-w", "0", "-b", f"127.0.0.1:{port}", "echo:app"]
    with subprocess.Popen(command, cwd=directory, stderr=subprocess.DEVNULL) as process:
        try:
            by = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert time.monotonic() < by, "Hypercorn did not start"
                    time.sleep(0.05)
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_files_of_the_standard_librarys_server(tmp_path: Path) -> None:
    """HTTP/1.0, a connection for each, many at once."""
    content = bytes(range(256)) * 4096
    (tmp_path / "file").write_bytes(content)
    command = [sys.executable, "-u", "-m", "http.server", "0", "-b", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            match = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert match is not None, line
            url = match[0]

            async def ask() -> None:
                answer = await client.get(f"{url}file")
                assert (answer.status, answer.content) == (200, content)

            async with HTTPClient(ClientLimits(connections=5)) as client:
                with trio.fail_after(30):
                    async with trio.open_nursery() as nursery:
                        for _ in range(20):
                            nursery.start_soon(ask)
                assert (await client.get(f"{url}nothing")).status == 404
                assert client.statistics().connections == 0
        finally:
            process.kill()


async def test_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """Requests fail at once while it is away, and go through when it is there again."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    async with HTTPClient() as client:

        async def ask(number: int) -> None:
            body = b"%d" % number
            assert (await client.post(url, content=body)).content == b"POST" + body

        with trio.fail_after(60):
            for _ in range(2):
                with hypercorn(tmp_path, port) as process:
                    async with trio.open_nursery() as nursery:
                        for number in range(50):
                            nursery.start_soon(ask, number)
                    async with trio.open_nursery() as nursery:
                        for number in range(50):
                            nursery.start_soon(ask, number)
                    (origin,) = client.statistics().origins.values()
                    assert origin.reused >= 50
                    process.kill()
                    process.wait()
                    began = trio.current_time()
                    for _ in range(3):
                        with pytest.raises((UpstreamUnreachable, UpstreamError)):
                            await client.get(url)
                    assert trio.current_time() - began < 1
