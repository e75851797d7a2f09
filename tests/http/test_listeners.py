"""What a server listens on: opened wherever it is asked for, and given back without a trace."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from bulkhead_trio.http.listeners import (
    ANY_IPV4,
    DescriptorAddress,
    OpenSockets,
    TCPAddress,
    UnixAddress,
    open_sockets,
    passed_descriptors,
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a path that is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="bulkhead-") as name:
        yield Path(name)


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 address to listen on."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def accepts(family: socket.AddressFamily, where: object) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect(where)  # type: ignore[arg-type]
        except ConnectionRefusedError:
            return False
    return True


def port_of(opened: OpenSockets) -> int:
    return int(opened.shares[0][0].getsockname()[1])


async def test_any_port_is_found_and_named() -> None:
    """Port 0 becomes a port that works, and nobody listens there afterwards."""
    async with open_sockets([TCPAddress("127.0.0.1", 0)]) as opened:
        port = port_of(opened)
        assert opened.addresses == (f"127.0.0.1:{port}",)
        assert accepts(socket.AF_INET, ("127.0.0.1", port))
    assert not accepts(socket.AF_INET, ("127.0.0.1", port))


@needs_ipv6
@pytest.mark.parametrize("host", ["", "::"])
async def test_everywhere_is_both_families_on_one_port(host: str) -> None:
    """An IPv4 client comes in by IPv4, so that its address looks like one."""
    async with open_sockets([TCPAddress(host, 0)]) as opened:
        port = port_of(opened)
        assert opened.addresses == (f"[::]:{port}",)
        assert accepts(socket.AF_INET, ("127.0.0.1", port))
        assert accepts(socket.AF_INET6, ("::1", port))
        assert {sock.family for sock in opened.shares[0]} == {socket.AF_INET, socket.AF_INET6}


@needs_ipv6
async def test_everywhere_leaves_ipv4_to_who_is_named_for_it() -> None:
    """``0.0.0.0`` and ``::`` with one port are no contradiction."""
    async with open_sockets([TCPAddress("127.0.0.1", 0)]) as probe:
        port = port_of(probe)
    async with open_sockets([TCPAddress("::", port), TCPAddress(ANY_IPV4, port)]) as opened:
        assert [sock.family for sock in opened.shares[0]] == [socket.AF_INET6, socket.AF_INET]


async def test_name_stands_for_all_its_addresses() -> None:
    """``localhost`` is listened on wherever it resolves to on this machine, on one port."""
    async with open_sockets([TCPAddress("localhost", 0)]) as opened:
        assert accepts(socket.AF_INET, ("127.0.0.1", port_of(opened)))
        assert len({sock.getsockname()[1] for sock in opened.shares[0]}) == 1


async def test_shares_each_have_a_queue_of_their_own() -> None:
    """Every connection is in the queue of one of them, and of no other."""
    async with open_sockets([TCPAddress("127.0.0.1", 0)], shares=3) as opened:
        (first,), (second,), (third,) = opened.shares
        assert len({first.getsockname(), second.getsockname(), third.getsockname()}) == 1
        with ExitStack() as stack:
            for _ in range(60):
                client = stack.enter_context(socket.socket())
                client.connect(first.getsockname())
            counts = [count_accepted(sock) for sock in (first, second, third)]
    assert sum(counts) == 60
    assert all(counts), counts


def count_accepted(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            accepted, _ = listener.accept()
        except BlockingIOError:
            return count
        accepted.close()
        count += 1


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (1, 2), (2, 1)])
async def test_port_in_use_is_refused_with_its_name(before: int, after: int) -> None:
    """Also where the kernel would let two servers of one user share it, and mix them up."""
    async with open_sockets([TCPAddress("127.0.0.1", 0)], shares=before) as opened:
        port = port_of(opened)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: Address al"):
            async with open_sockets([TCPAddress("127.0.0.1", port)], shares=after):
                pass


async def test_address_that_fails_gives_the_others_back() -> None:
    """All or nothing."""
    async with open_sockets([TCPAddress("127.0.0.1", 0)]) as probe:
        port = port_of(probe)
    with pytest.raises(OSError, match=r"203\.0\.113\.1 port 0"):
        async with open_sockets([TCPAddress("127.0.0.1", port), TCPAddress("203.0.113.1", 0)]):
            pass
    assert not accepts(socket.AF_INET, ("127.0.0.1", port))


@pytest.mark.parametrize("host", ["nowhere.invalid", f"{'x' * 64}.invalid"])
async def test_name_that_does_not_resolve_is_an_error_that_names_it(host: str) -> None:
    """As any other address that cannot be listened on."""
    with pytest.raises(OSError, match=f"cannot listen on {host} port 80"):
        async with open_sockets([TCPAddress(host, 80)]):
            pass


async def test_unix_socket_has_its_mode_and_goes_at_the_end(directory: Path) -> None:
    """Shared by all processes; no file is left."""
    path = directory / "http.sock"
    async with open_sockets([UnixAddress(str(path), mode=0o600)], shares=2) as opened:
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert opened.addresses == (f"unix:{path}",)
        (first,), (second,) = opened.shares
        assert first is second
        assert accepts(socket.AF_UNIX, str(path))
    assert not path.exists()


async def test_unix_socket_that_nobody_listens_on_is_replaced(directory: Path) -> None:
    """What a server left that was killed is in nobody's way."""
    path = directory / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with open_sockets([UnixAddress(str(path))]):
        assert accepts(socket.AF_UNIX, str(path))


async def test_unix_socket_in_use_is_left_alone(directory: Path) -> None:
    """Who listens goes on, and the error says where."""
    path = directory / "http.sock"
    async with open_sockets([UnixAddress(str(path))]):
        with pytest.raises(OSError, match=f"unix:{path}: Address already in use"):
            async with open_sockets([UnixAddress(str(path))]):
                pass
        assert accepts(socket.AF_UNIX, str(path))


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_what_is_no_socket_is_left_alone(directory: Path, kind: str) -> None:
    """Nobody's file is removed for a typing mistake, nor what a link points to."""
    path = directory / "precious"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(directory / "elsewhere")
    with pytest.raises(OSError, match="no socket"):
        async with open_sockets([UnixAddress(str(path))]):
            pass
    assert path.is_symlink() or path.exists()


async def test_unix_socket_of_a_successor_is_not_removed(directory: Path) -> None:
    """At the end only the file that was made here goes."""
    path = directory / "http.sock"
    async with open_sockets([UnixAddress(str(path))]):
        path.unlink()
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(str(path))
    with successor:
        assert path.exists()


async def test_unix_path_that_is_too_long_says_so(directory: Path) -> None:
    """The kernel's own message names neither the path nor the length."""
    with pytest.raises(OSError, match="at most 107 bytes"):
        async with open_sockets([UnixAddress(str(directory / ("x" * 108)))]):
            pass


async def test_inherited_socket_is_served_and_not_passed_on() -> None:
    """The descriptor is ours from then on."""
    outside = socket.create_server(("127.0.0.1", 0))
    outside.set_inheritable(True)
    port = outside.getsockname()[1]
    number = outside.detach()
    async with open_sockets([DescriptorAddress(number)], shares=2) as opened:
        assert opened.addresses == (f"fd://{number}",)
        assert accepts(socket.AF_INET, ("127.0.0.1", port))
        assert not os.get_inheritable(number)
    assert not accepts(socket.AF_INET, ("127.0.0.1", port))


async def test_inherited_descriptor_must_be_a_listening_socket(directory: Path) -> None:
    """A file, a socket that is connected, one that does not listen, and none at all are none."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as unbound, (directory / "file").open("w") as file:
        for number in (file.fileno(), ours.fileno(), unbound.fileno()):
            descriptor = os.dup(number)
            with pytest.raises(OSError, match=f"cannot listen on fd://{descriptor}: "):
                async with open_sockets([DescriptorAddress(descriptor)]):
                    pass
    with pytest.raises(OSError, match="cannot listen on fd://65000: "):
        async with open_sockets([DescriptorAddress(65_000)]):
            pass


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, (3, 4)),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "2"}, ()),
        ({"LISTEN_PID": "7"}, ()),
        ({"LISTEN_FDS": "1"}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "many"}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "٢"}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "-1"}, ()),
    ],
)
def test_passed_descriptors_are_those_meant_for_this_process(
    environ: dict[str, str], expected: tuple[int, ...]
) -> None:
    """As sd_listen_fds(3) has it; what is for another process or cannot be read is none."""
    assert tuple(each.number for each in passed_descriptors(environ, 7)) == expected


async def test_listeners_are_what_a_front_serves(directory: Path) -> None:
    """TCP and Unix sockets alike, through Trio."""
    path = directory / "http.sock"

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"hello")

    async with (
        open_sockets([TCPAddress("127.0.0.1", 0), UnixAddress(str(path))]) as opened,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(trio.serve_listeners, greet, opened.listeners(0))
        with trio.fail_after(5):
            by_tcp = await trio.open_tcp_stream("127.0.0.1", port_of(opened))
            by_path = await trio.open_unix_socket(str(path))
            async with by_tcp, by_path:
                assert await by_tcp.receive_some() == b"hello"
                assert await by_path.receive_some() == b"hello"
        nursery.cancel_scope.cancel()
