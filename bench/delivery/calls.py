"""Requests with a body, for what has to be there before something is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from bench.client import Address, Connection, ConnectionLost
from bench.failures import RunFailed

SECONDS = 30.0


def request_bytes(address: Address, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A POST of JSON on a connection that stays open."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", f"Host: {address.host}:{address.port}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


async def post(address: Address, path: str, document: Any, headers: Mapping[str, str]) -> Any:
    """What is answered to ``document``.

    Raises:
        RunFailed: it is not 2xx, or there is none.
    """
    request = request_bytes(address, path, msgspec.json.encode(document), headers)
    try:
        with trio.fail_after(SECONDS):
            connection = await Connection.open(address)
            try:
                answer = await connection.request(request)
            finally:
                connection.close()
    except (ConnectionLost, OSError, trio.TooSlowError) as error:
        raise RunFailed(f"no answer to POST {path}: {error}") from error
    if not 200 <= answer.status < 300:
        raise RunFailed(f"POST {path} answers {answer.status}: {answer.body[:300]!r}")
    return answer.json()
