"""The real server with TLS: HTTP/2, HTTP/1.1 and WebSocket handshakes, and the way out."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ..http.hypercorn._wires import (
    HOST,
    H2Client,
    WSClient,
    authority,
    client_context,
    read_all,
    write_pair,
)
from ._database import locked_table
from ._server import START_SECONDS, Server, running_server, wait_for_queries
from .conftest import CreateDatabase

DATA = [("x-tenant-tier", "pro")]
KILLER = (
    b"POST /nothing/here HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["engine", "hypercorn"], scope="module")
def server(
    request: pytest.FixtureRequest,
    files: tuple[Path, Path],
    create_database: CreateDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    files[1].chmod(0o644)
    variables = {
        "TLS_CERTIFICATE": str(files[0]),
        "TLS_KEY": str(files[1]),
        "HTTP": request.param,
        "BULKHEAD_TIERS__PRO__RATE_LIMIT": "",
    }
    data_dir = tmp_path_factory.mktemp("server") / "data"
    with running_server(
        variables, data_dir=data_dir, database=create_database(), until_ready=False
    ) as server:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready(server):
            assert time.monotonic() < deadline, server.tail()
            time.sleep(0.05)
        yield server
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.tail()


def is_ready(server: Server) -> bool:
    assert server.process.poll() is None, server.tail()
    try:
        with (
            socket.create_connection(server.address, timeout=5) as plain,
            client_context().wrap_socket(plain, server_hostname=HOST) as secured,
        ):
            secured.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return secured.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@asynccontextmanager
async def secured(
    server: Server, *protocols: str
) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    stream = await trio.open_tcp_stream(*server.address)
    wrapped = trio.SSLStream(stream, client_context(*protocols), server_hostname=HOST)
    try:
        with trio.fail_after(20):
            yield wrapped
    finally:
        await trio.aclose_forcefully(wrapped)


@asynccontextmanager
async def h2_client(server: Server) -> AsyncIterator[H2Client]:
    async with secured(server, "h2") as stream:
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == "h2"
        client = H2Client(stream)
        await client.start()
        yield client


async def test_api_over_http2(server: Server) -> None:
    """The contract holds over HTTP/2: data, errors, request ids."""
    async with h2_client(server) as client:
        found = await client.ask("/api/data", headers=[*DATA, ("x-request-id", "mine")])
        assert found.status == 200
        assert found.body.startswith(b'[{"id":')
        assert found.headers["x-request-id"] == "mine"
        for path, status in (("/admin/nothing", 404), ("/nothing", 401)):
            refused = await client.ask(path)
            assert refused.status == status
            assert refused.headers["content-type"] == "application/problem+json"
        body = b'{"orderId":"one","amount":1}'
        number = client.send_request(
            "/api/orders",
            method="POST",
            ends=False,
            headers=[("x-user-id", "me"), ("content-type", "application/json")],
        )
        client.connection.send_data(number, body, end_stream=True)
        await client.flush()
        assert (await client.answer(number)).status == 202


async def test_many_requests_on_one_connection(server: Server) -> None:
    """A hundred requests at once on one connection are each answered."""
    async with h2_client(server) as client:
        numbers = [client.send_request("/api/data", headers=DATA) for _ in range(60)]
        await client.flush()
        assert {(await client.answer(number)).status for number in numbers} == {200}


async def test_curl_speaks_http2(server: Server) -> None:
    """A common client negotiates HTTP/2 and gets its answer."""
    curl = shutil.which("curl")
    if curl is None or "HTTP2" not in subprocess.check_output([curl, "--version"], text=True):
        pytest.skip("there is no curl that speaks HTTP/2")
    ca = server.data_dir.parent / "ca.pem"
    authority().cert_pem.write_to_path(str(ca))
    host, port = server.address
    done = await trio.run_process(
        [
            *(curl, "-sS", "--http2", "--cacert", str(ca), "--max-time", "10"),
            *("--resolve", f"{HOST}:{port}:{host}", "-w", "%{http_version} %{http_code}"),
            *("-o", "/dev/null", f"https://{HOST}:{port}/api/data", "-H", "X-Tenant-Tier: pro"),
        ],
        capture_stdout=True,
    )
    assert done.stdout == b"2 200"


async def test_api_over_http11(server: Server) -> None:
    """The same over HTTP/1.1, several requests on one connection."""
    async with secured(server, "http/1.1") as stream:
        for _ in range(3):
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            got = bytes(await stream.receive_some(65536))
            assert got.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/nothing", b"401", b"api_key_missing"),
        ("/admin/nothing", b"404", b"not_found"),
        ("/api/data", b"400", b"tenant_tier_missing"),
    ],
)
async def test_web_socket_handshake_is_refused(
    server: Server, path: str, status: bytes, code: bytes
) -> None:
    """Whoever may not come in gets what any request would get, and the connection goes on."""
    async with secured(server, "http/1.1") as stream:
        for _ in range(2):
            await stream.send_all(WSClient(None).hello(path))
            got = b""
            while not got.endswith(b"}"):
                piece = await stream.receive_some(65536)
                assert piece, got
                got += piece
            assert got.startswith(b"HTTP/1.1 " + status)
            assert b"application/problem+json" in got
            assert b'"code":"%s"' % code in got


async def test_plain_http_and_garbage_hurt_nobody(server: Server) -> None:
    """What is no TLS, and the worst known request under it, leave the server as it is."""
    for junk in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(2000), b"\x16\x03\x01"):
        async with await trio.open_tcp_stream(*server.address) as stream:
            await stream.send_all(junk)
    for _ in range(60):
        async with secured(server, "http/1.1") as stream:
            await stream.send_all(KILLER)
            assert (await read_all(stream)).startswith(b"HTTP/1.1 4")
    async with h2_client(server) as client:
        assert (await client.ask("/health")).status == 200


async def test_old_versions_are_refused(server: Server) -> None:
    """TLS 1.1 gets no connection."""
    context = client_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    stream = await trio.open_tcp_stream(*server.address)
    async with trio.SSLStream(stream, context, server_hostname=HOST) as wrapped:
        with pytest.raises(trio.BrokenResourceError):
            await wrapped.do_handshake()


def test_what_it_says_at_start(server: Server) -> None:
    """It says where it serves, and that everybody can read its key."""
    assert f"Serving on https://127.0.0.1:{server.address[1]}" in server.output
    assert "tls_key_is_readable_by_all" in server.output


async def test_draining_finishes_what_runs(
    files: tuple[Path, Path], create_database: CreateDatabase, data_dir: Path
) -> None:
    """A request that runs on SIGTERM is answered over HTTP/2, a new one refused, and all ends."""
    variables = {"TLS_CERTIFICATE": str(files[0]), "TLS_KEY": str(files[1])}
    database = create_database()
    with running_server(
        variables, data_dir=data_dir, database=database, until_ready=False
    ) as server:
        with trio.fail_after(START_SECONDS):
            while not is_ready(server):
                await trio.sleep(0.05)
        async with h2_client(server) as client:
            with locked_table(database):
                running = client.send_request("/api/data", headers=DATA)
                await client.flush()
                await wait_for_queries(database, 1)
                server.signal(signal.SIGTERM)
                with trio.fail_after(5):
                    while (refused := await client.ask("/ready")).status != 503:
                        await trio.sleep(0.02)
                assert (await client.ask("/api/data", headers=DATA)).status == 503
                assert refused.status == 503
            assert (await client.answer(running)).status == 200
            await client.read_until_end()
        assert await server.exit_code() == 0
