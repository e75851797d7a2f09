"""What a scripted upstream's process is told and answers: one JSON document a line."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from bulkhead_trio.testing.upstream.script import Script
from bulkhead_trio.testing.upstream.seen import Seen


class Play(msgspec.Struct, frozen=True, tag_field="do", tag="play", rename="camel"):
    """Play this script from now on."""

    script: Script


class Look(msgspec.Struct, frozen=True, tag_field="do", tag="look", rename="camel"):
    """Say what has been seen."""


class Forget(msgspec.Struct, frozen=True, tag_field="do", tag="forget", rename="camel"):
    """Begin the log anew, and close all gates."""


class OpenGate(msgspec.Struct, frozen=True, tag_field="do", tag="openGate", rename="camel"):
    """Let the answers pass that wait at this gate."""

    name: str


class Drop(msgspec.Struct, frozen=True, tag_field="do", tag="drop", rename="camel"):
    """End every connection."""

    is_reset: bool = False


Command: TypeAlias = Play | Look | Forget | OpenGate | Drop


class Listening(msgspec.Struct, frozen=True, rename="camel"):
    """The first line that the process writes: where it is."""

    url: str
    host: str
    port: int
    pid: int


class Done(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The answer to a command; ``seen`` for `Look`, ``error`` where the line was no command."""

    error: str | None = None
    seen: Seen | None = None


_decoder: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)


def read_command(line: bytes) -> Command:
    """A command from its line.

    Raises:
        msgspec.DecodeError: it is none; the message says where.
    """
    return _decoder.decode(line)
