"""Where a server may listen: what each form must look like. Pure, as `_rules`."""

from __future__ import annotations

import re
from typing import TypeAlias

import attrs

from bulkhead_trio.config._rules import PORTS, host, shown, whole

SOCKET_MODE = 0o660
"""Whoever may write to a Unix socket may connect: its owner and its group."""

LARGEST_DESCRIPTOR = 65_535

_ADDRESS = re.compile(r"(\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_UNIX = re.compile(r"unix:(?P<path>/[^?,]*[^?,/])(\?mode=(?P<mode>0?[0-7]{3}))?")
_DESCRIPTOR = re.compile(r"fd://(?P<number>[0-9]{1,5})", re.ASCII)


@attrs.frozen
class Address:
    """A host name or IP address, and a port (0: any free one); no host is all addresses."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class SocketPath:
    """A Unix socket: its absolute path, and its permissions."""

    path: str
    mode: int = SOCKET_MODE

    def __str__(self) -> str:
        mode = "" if self.mode == SOCKET_MODE else f"?mode={self.mode:04o}"
        return f"unix:{self.path}{mode}"


@attrs.frozen
class PassedDescriptor:
    """A listening socket that whoever starts the server has opened, by its descriptor's number."""

    number: int

    def __str__(self) -> str:
        return f"fd://{self.number}"


Bind: TypeAlias = Address | SocketPath | PassedDescriptor


def address(value: object) -> Address:
    """``host:port``, with brackets around an IPv6 address."""
    wanted = f"must be host:port or [ipv6]:port, not {shown(value)}"
    match = _ADDRESS.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match["host"] == "":
        raise ValueError(wanted)
    try:
        port = whole(*PORTS)(match["port"])
        name = host(match["v6"] or match["host"])
    except ValueError:
        raise ValueError(wanted) from None
    if match["v6"] and ":" not in name:
        raise ValueError(wanted)
    return Address(name, port)


def bind(value: object) -> Bind:
    """``host:port``, ``:port``, ``unix:/path``, ``unix:/path?mode=0666`` or ``fd://3``."""
    found = value.strip() if isinstance(value, str) else ""
    if match := _UNIX.fullmatch(found):
        if found.isprintable():
            return SocketPath(match["path"], int(match["mode"] or f"{SOCKET_MODE:o}", 8))
    elif match := _DESCRIPTOR.fullmatch(found):
        number = int(match["number"])
        if 3 <= number <= LARGEST_DESCRIPTOR:  # below are the standard streams
            return PassedDescriptor(number)
    else:
        is_everywhere = found.startswith(":") and not found.startswith("::")
        try:
            there = address(f"[::]{found}" if is_everywhere else found)
        except ValueError:
            pass
        else:
            return Address("", there.port) if is_everywhere else there
    raise ValueError(
        f"must be host:port, [ipv6]:port, :port, unix:/path or fd://3, not {shown(value)}"
    )
