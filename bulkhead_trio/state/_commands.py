"""What Redis is asked: a command, most often a script, and where its key is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

import msgspec

Argument: TypeAlias = bytes | int | str

SCRIPTS = Path(__file__).parent / "scripts"


class Script:
    """A Lua script that Redis runs as one step, called by the digest of its source.

    Args:
        name: of its file in ``scripts/``, without ``.lua``.
    """

    __slots__ = ("digest", "name", "source")

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = (SCRIPTS / f"{name}.lua").read_bytes()
        # Redis names scripts by it; nothing is secret here.
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    def on(self, keys: Sequence[bytes], arguments: Sequence[Argument]) -> Command:
        """The command that runs it; all ``keys`` are in one slot of a cluster."""
        return Command(b"EVALSHA", (self.digest, len(keys), *keys, *arguments), keys[0], self)


class Command(msgspec.Struct, frozen=True):
    """One command.

    Attributes:
        name: of the command.
        arguments: all of them, the key included.
        key: by which a cluster finds the node.
        script: that it runs; ``None`` where it is none.
        decode: whether texts in the answer are made strings; coredis looks for it.
    """

    name: bytes
    arguments: tuple[Argument, ...]
    key: bytes
    script: Script | None = None

    decode: ClassVar[bool] = False

    @property
    def serialized_arguments(self) -> tuple[Argument, ...]:
        """The arguments, as coredis looks for them."""
        return self.arguments

    def with_source(self) -> Command:
        """The same with the script's source, for a Redis that does not know its digest."""
        if self.script is None:
            return self
        return Command(b"EVAL", (self.script.source, *self.arguments[1:]), self.key)
