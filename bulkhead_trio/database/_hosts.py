"""From a connection string's hosts to the addresses to try, resolved without blocking the loop."""

from __future__ import annotations

import contextlib
import ipaddress

import psycopg
import trio
from psycopg._conninfo_utils import get_param, split_attempts
from psycopg.abc import ConnDict

DEFAULT_PORT = "5432"


async def find_attempts(params: ConnDict) -> list[ConnDict]:
    """One set of parameters for each address of each host, in the order given.

    Raises:
        psycopg.OperationalError: no host could be resolved.
    """
    found: list[ConnDict] = []
    failure: OSError | None = None
    for attempt in split_attempts(params):
        try:
            found.extend(await _resolve(attempt))
        except OSError as error:
            failure = error
    if not found and failure is not None:
        raise psycopg.OperationalError(f"cannot resolve the database's host: {failure}")
    return found


async def _resolve(attempt: ConnDict) -> list[ConnDict]:
    host = get_param(attempt, "host")
    if not host or host.startswith(("/", "@")) or get_param(attempt, "hostaddr"):
        return [attempt]
    with contextlib.suppress(ValueError):
        return [{**attempt, "hostaddr": str(ipaddress.ip_address(host))}]
    port = get_param(attempt, "port") or DEFAULT_PORT
    # Trio resolves in a thread that it abandons when cancelled; libpq would block the loop.
    answers = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    addresses = dict.fromkeys(str(answer[4][0]) for answer in answers)
    return [{**attempt, "hostaddr": address} for address in addresses]
