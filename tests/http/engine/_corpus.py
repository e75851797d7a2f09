"""The corpus of requests."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import attrs

Fields = tuple[tuple[bytes, bytes], ...]
Request = tuple[str, bytes, bytes]
"""Method, target and body."""


@attrs.frozen
class Case:
    """Bytes, and what has to come of them.

    Attributes:
        name: what is special about them.
        data: what the client sends.
        ends: whether it finishes sending then.
        first: what the first answer's status may be; nothing where there is no answer.
        last: the same of the last answer.
        answers: how many.
        closes: whether the server closes the connection after them.
        seen: of the first request that the application sees, what is said of it.
        requests: all that it sees, where they are said.
        headers: of the first, where they are said.
    """

    name: str
    data: bytes
    ends: bool
    first: tuple[int, ...]
    last: tuple[int, ...]
    answers: int
    closes: bool
    seen: dict[str, bytes]
    requests: tuple[Request, ...] | None
    headers: Fields | None

    @property
    def is_refused(self) -> bool:
        """Whether no request comes of it."""
        return bool(self.first) and 200 not in self.first

    @property
    def served(self) -> int:
        """How many requests the application sees."""
        return self.answers if 200 in self.last else max(self.answers - 1, 0)


def _case(raw: dict[str, Any]) -> Case:
    requests = raw.get("requests")
    headers = raw.get("headers")
    first = _statuses(raw["status"])
    last = _statuses(raw["last"]) if "last" in raw else first
    answers = len(requests) if requests else raw.get("answers", 1 if first else 0)
    is_known = {"name", "bytes", "bytes_hex", "ends", "status", "last", "answers", "closes"}
    seen = {"method", "target", "body", "requests", "headers"}
    assert raw.keys() <= is_known | seen, raw
    return Case(
        name=raw["name"],
        data=bytes.fromhex(raw["bytes_hex"]) if "bytes_hex" in raw else _bytes(raw["bytes"]),
        ends=raw.get("ends", False),
        first=first,
        last=last,
        answers=answers,
        closes=raw.get("closes", bool(last) and 200 not in last),
        seen={name: _bytes(raw[name]) for name in ("method", "target", "body") if name in raw},
        requests=None if requests is None else tuple(
            (method, _bytes(target), _bytes(body)) for method, target, body in requests
        ),
        headers=None if headers is None else tuple(
            (_bytes(name), _bytes(value)) for name, value in headers
        ),
    )  # fmt: skip


def _statuses(raw: int | list[int]) -> tuple[int, ...]:
    if isinstance(raw, list):
        return tuple(raw)
    return (raw,) if raw else ()


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


CASES = [
    _case(raw) for raw in tomllib.loads(Path(__file__).with_name("corpus.toml").read_text())["case"]
]
