"""The corpus of requests, and what an answer on the wire is."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import attrs
import h11


@attrs.frozen
class Case:
    """Bytes, and what has to come of them."""

    name: str
    data: bytes
    statuses: tuple[int, ...]
    answers: int
    closes: bool
    seen: dict[str, Any]

    @property
    def is_refused(self) -> bool:
        return self.statuses != (200,)


def _case(raw: dict[str, Any]) -> Case:
    data = bytes.fromhex(raw["bytes_hex"]) if "bytes_hex" in raw else raw["bytes"].encode("latin-1")
    status = raw["status"]
    statuses = tuple(status) if isinstance(status, list) else (status,)
    return Case(
        name=raw["name"],
        data=data,
        statuses=statuses,
        answers=raw.get("answers", 1),
        closes=raw.get("closes", statuses != (200,)),
        seen={name: raw[name] for name in ("method", "target", "body") if name in raw},
    )


CASES = [
    _case(raw) for raw in tomllib.loads(Path(__file__).with_name("corpus.toml").read_text())["case"]
]


def answers_in(data: bytes, methods: list[str]) -> list[tuple[int, bytes]]:
    """Every answer in what a server sent, as h11 reads it."""
    answers: list[tuple[int, bytes]] = []
    for method in methods:
        if not data:
            break
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        status, body = 0, b""
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif event is h11.NEED_DATA:
                client.receive_data(b"")
            else:
                break
        answers.append((status, body))
        data = client.trailing_data[0]
    assert not data, f"more than was asked for: {data[:100]!r}"
    return answers
