"""What a receiver's process is told and answers: one JSON document a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from bulkhead_trio.testing.receiver.behaviour import Behaviour
from bulkhead_trio.testing.receiver.seen import Arrival, EndpointSeen, Received


class _Command(msgspec.Struct, frozen=True, tag_field="do", rename="camel"):
    """A line for the process."""


class Behave(_Command, frozen=True, tag="behave"):
    """These endpoints do this from now on."""

    endpoints: dict[int, Behaviour]


class Trust(_Command, frozen=True, tag="trust"):
    """These endpoints' secrets, for the verification."""

    endpoints: dict[int, tuple[str, ...]]


class Look(_Command, frozen=True, tag="look"):
    """Say what has arrived, but for the first ``since``."""

    since: int = 0


class Show(_Command, frozen=True, tag="show"):
    """Give an endpoint's last requests in full."""

    endpoint: int


class Sum(_Command, frozen=True, tag="sum"):
    """Say how much has arrived at each endpoint."""


class Forget(_Command, frozen=True, tag="forget"):
    """Begin anew."""


Command: TypeAlias = Behave | Trust | Look | Show | Sum | Forget


class Listening(msgspec.Struct, frozen=True):
    """The first line that the process writes: where it is."""

    host: str
    port: int
    pid: int


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a command; ``error`` where the line was none."""

    error: str | None = None
    arrivals: Sequence[Arrival] = ()
    received: Sequence[Received] = ()
    sums: dict[int, EndpointSeen] = {}


_decoder: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)


def read_command(line: bytes) -> Command:
    """A command from its line.

    Raises:
        msgspec.DecodeError: it is none; the message says where.
    """
    return _decoder.decode(line)
