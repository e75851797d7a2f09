"""What a server listens on: TCP of both families, Unix sockets, sockets that somebody else opened.

`open_sockets` opens all of them and gives them back at the end; `listeners` makes of one share what
a front serves. With several shares, which are for as many processes, every TCP address gets a
socket for each of them (``SO_REUSEPORT``): the kernel spreads new connections over them, and each
has a queue of its own. A Unix socket, and one that was inherited, is one for all.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias

import attrs
import trio

BACKLOG = 65_535
"""Connections that wait to be accepted; the kernel takes what ``net.core.somaxconn`` allows."""

UNIX_MODE = 0o660
LONGEST_UNIX_PATH = 107
"""Bytes that ``sockaddr_un`` has, without the NUL at the end."""

FIRST_PASSED_DESCRIPTOR = 3
"""``SD_LISTEN_FDS_START`` of sd_listen_fds(3)."""

ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"  # noqa: S104  what these mean is what they are for


@attrs.frozen
class TCPAddress:
    """A host and a port.

    Attributes:
        host: an IP address; a name, which may have several; ``""`` and ``::`` are all addresses of
            this machine, of both families.
        port: 0 is any free one, the same for all addresses of the host.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class UnixAddress:
    """A socket in the file system.

    Attributes:
        path: where; a socket there that nobody listens on any more is replaced.
        mode: its permissions: whoever may write to it may connect.
    """

    path: str
    mode: int = UNIX_MODE

    def __str__(self) -> str:
        return f"unix:{self.path}"


@attrs.frozen
class DescriptorAddress:
    """A listening socket that this process was started with, by the number of its descriptor."""

    number: int

    def __str__(self) -> str:
        return f"fd://{self.number}"


SocketName: TypeAlias = tuple[Any, ...]
"""What the socket module calls an address: host, port, and more for IPv6."""

ListenAddress: TypeAlias = TCPAddress | UnixAddress | DescriptorAddress


@attrs.frozen
class OpenSockets:
    """Sockets that listen.

    Attributes:
        shares: for each process its own; of one process, one.
        addresses: where, with the port that was found where any would do.
    """

    shares: tuple[tuple[socket.socket, ...], ...]
    addresses: tuple[str, ...]

    def listeners(self, share: int) -> list[trio.SocketListener]:
        """What a front of process number ``share`` serves; it closes them."""
        return listeners(self.shares[share])

    def close(self) -> None:
        """Listen no more in this process; those of other processes stay."""
        for sock in {sock for share in self.shares for sock in share}:
            sock.close()


def listeners(sockets: Sequence[socket.socket]) -> list[trio.SocketListener]:
    """What a front serves; it closes them."""
    return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]


def passed_descriptors(environ: Mapping[str, str], pid: int) -> tuple[DescriptorAddress, ...]:
    """The sockets that systemd, or whoever speaks its protocol, has opened for process ``pid``.

    See sd_listen_fds(3): ``LISTEN_PID`` says whom they are for, ``LISTEN_FDS`` how many they are.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdecimal()):
        return ()
    first = FIRST_PASSED_DESCRIPTOR
    return tuple(DescriptorAddress(number) for number in range(first, first + int(count[:4])))


@asynccontextmanager
async def open_sockets(
    addresses: Collection[ListenAddress], *, shares: int = 1
) -> AsyncIterator[OpenSockets]:
    """Listen on all of ``addresses``; on leaving, on none, and Unix sockets' files have gone.

    Args:
        addresses: at least one.
        shares: for how many processes.

    Raises:
        OSError: one of them cannot be listened on; says which.
    """
    own: list[list[socket.socket]] = [[] for _ in range(shares)]
    names: list[str] = []
    taken = {each for each in addresses if isinstance(each, TCPAddress)}
    with ExitStack() as stack:
        for address in addresses:
            with _naming(address):
                if isinstance(address, TCPAddress):
                    opened = await _open_tcp(address, taken, shares, stack)
                elif isinstance(address, UnixAddress):
                    opened = [[stack.enter_context(_unix_socket(address))] * shares]
                else:
                    opened = [[stack.enter_context(_inherited(address))] * shares]
            for sockets in opened:
                for share, sock in zip(own, sockets, strict=True):
                    share.append(sock)
            names.append(_name(address, opened[0][0]))
        yield OpenSockets(tuple(tuple(share) for share in own), tuple(names))


@contextmanager
def _naming(address: ListenAddress) -> Iterator[None]:
    """Errors say which address they are about."""
    try:
        yield
    except OSError as error:
        # A name that cannot be resolved has a number of another kind.
        number = errno.EADDRNOTAVAIL if isinstance(error, socket.gaierror) else error.errno
        where = str(address)
        if isinstance(address, TCPAddress):
            where = f"{address.host or '*'} port {address.port}"
        raise OSError(number, f"cannot listen on {where}: {error.strerror}") from error


def _name(address: ListenAddress, sock: socket.socket) -> str:
    if isinstance(address, TCPAddress):
        return str(TCPAddress(address.host or ANY_IPV6, sock.getsockname()[1]))
    return str(address)


# --- TCP -----------------------------------------------------------------------------------------


async def _open_tcp(
    address: TCPAddress, taken: Collection[TCPAddress], shares: int, stack: ExitStack
) -> list[list[socket.socket]]:
    """For each of the host's addresses a socket for each share."""
    opened: list[list[socket.socket]] = []
    port = address.port
    missing: OSError | None = None
    for family, where in await _resolve(address, taken):
        try:
            sockets = _listen(family, (where[0], port, *where[2:]), shares)
        except OSError as error:
            # A machine without IPv6 has it in its resolver and its hosts file all the same.
            absent = error.errno == errno.EADDRNOTAVAIL and family == socket.AF_INET6
            if error.errno != errno.EAFNOSUPPORT and not (absent and where[0] != address.host):
                raise
            missing = error
            continue
        for sock in sockets:
            stack.enter_context(sock)
        port = sockets[0].getsockname()[1]
        opened.append(sockets)
    if not opened:
        raise missing or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return opened


async def _resolve(
    address: TCPAddress, taken: Collection[TCPAddress]
) -> list[tuple[socket.AddressFamily, SocketName]]:
    """Every address that the host stands for, each once."""
    if address.host in ("", ANY_IPV6):
        both: list[tuple[socket.AddressFamily, SocketName]] = [
            (socket.AF_INET, (ANY_IPV4, 0)),
            (socket.AF_INET6, (ANY_IPV6, 0)),
        ]
        # Who lists 0.0.0.0 beside :: has told us already which is for what.
        is_listed = attrs.evolve(address, host=ANY_IPV4) in taken
        return both[1:] if is_listed else both
    try:
        found = await trio.socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError as error:  # a part of the name is longer than the DNS allows
        raise OSError(errno.EADDRNOTAVAIL, f"it is no host's name ({error})") from error
    return list(dict.fromkeys((family, where) for family, _, _, _, where in found))


def _listen(family: socket.AddressFamily, where: SocketName, shares: int) -> list[socket.socket]:
    if shares > 1:
        # With SO_REUSEPORT the kernel lets another server of ours in on the same port, and each
        # would get a part of the requests: so first see that nobody is there.
        with _bound(family, where, is_shared=False) as probe:
            where = probe.getsockname()
    with ExitStack() as stack:
        opened: list[socket.socket] = []
        for _ in range(shares):
            opened.append(_bound(family, where, is_shared=shares > 1))
            sock = stack.enter_context(opened[-1])
            sock.listen(BACKLOG)
            sock.setblocking(False)
        stack.pop_all()
    return opened


def _bound(family: socket.AddressFamily, where: SocketName, *, is_shared: bool) -> socket.socket:
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        # Without it a port cannot be used again for a minute after connections were open on it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own, so that no client's address looks like ::ffff:10.0.0.1.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        stack.pop_all()
    return sock


# --- Unix ----------------------------------------------------------------------------------------


@contextmanager
def _unix_socket(address: UnixAddress) -> Iterator[socket.socket]:
    """Listens in the file system; takes its file away on leaving, if it is still its own."""
    path = address.path
    if len(os.fsencode(path)) > LONGEST_UNIX_PATH:
        raise OSError(errno.ENAMETOOLONG, f"a socket's path has at most {LONGEST_UNIX_PATH} bytes")
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(path)
        own = os.lstat(path)
        try:
            # Until it listens, nobody can connect: its permissions are right before that.
            os.chmod(path, address.mode)
            sock.listen(BACKLOG)
            sock.setblocking(False)
            yield sock
        finally:
            with suppress(FileNotFoundError):
                if os.path.samestat(own, os.lstat(path)):
                    os.unlink(path)


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on; leave everything else.

    Raises:
        OSError: something else is there, or somebody listens.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is something that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # its queue is full: somebody is there
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


# --- inherited -----------------------------------------------------------------------------------


@contextmanager
def _inherited(address: DescriptorAddress) -> Iterator[socket.socket]:
    """A socket that this process was started with.

    Raises:
        OSError: the descriptor is closed, or is no socket that listens for streams.
    """
    if not stat.S_ISSOCK(os.fstat(address.number).st_mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    with socket.socket(fileno=address.number) as sock:
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            raise OSError(errno.EINVAL, "it does not listen for connections")
        os.set_inheritable(address.number, False)
        sock.setblocking(False)
        yield sock
