"""Where Redis is: what a ``REDIS_URL`` says."""

from __future__ import annotations

import binascii
import ssl
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

DEFAULT_PORT = 6379

SLOTS = 16_384
"""Of a cluster, whatever its size: https://redis.io/docs/latest/operate/oss_and_stack/reference/
cluster-spec/ (key distribution model)."""

_PARAMETERS = frozenset(
    {"cluster", "db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
)
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@attrs.frozen(kw_only=True)
class RedisAddress:
    """What a URL says.

    Attributes:
        host: a name or an address; empty for a socket.
        port: 1 to 65535.
        path: of a Unix socket; ``None`` for TCP.
        database: number of the database; a cluster has number 0 alone.
        username: ``None`` for Redis's default user.
        password: ``None`` where it asks for none.
        is_encrypted: whether TLS is spoken.
        is_cluster: whether it is a cluster; ``None``: Redis is asked.
        ca_certs: file of the authorities that are trusted, instead of the system's.
        certfile: file of our own certificate, for a Redis that asks for one.
        keyfile: file of its key, where that is another one.
        checks_host: whether the certificate has to name the host.
    """

    host: str = ""
    port: int = DEFAULT_PORT
    path: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    is_encrypted: bool = False
    is_cluster: bool | None = None
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    checks_host: bool = True

    @property
    def title(self) -> str:
        """Where it is, for people; without credentials."""
        return self.path if self.path is not None else f"{self.host}:{self.port}"

    def at(self, host: str, port: int) -> RedisAddress:
        """Another node of the same cluster."""
        return attrs.evolve(self, host=host, port=port)

    def tls_context(self) -> ssl.SSLContext | None:
        """How its certificate is checked; ``None`` where nothing is encrypted.

        Raises:
            OSError: a file cannot be read, or is no certificate.
        """
        if not self.is_encrypted:
            return None
        context = ssl.create_default_context(cafile=self.ca_certs)
        context.check_hostname = self.checks_host
        if self.certfile is not None:
            context.load_cert_chain(self.certfile, self.keyfile)
        return context


def address_of(url: str) -> RedisAddress:
    """Read ``redis://user:password@host:port/0``, ``rediss://...`` or ``unix:///path?db=0``.

    Parameters: ``cluster``, ``db``, ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``,
    ``ssl_check_hostname``.

    Raises:
        ValueError: it is no such URL; the message repeats nothing of it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise ValueError("the URL of Redis must have a valid host and port") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("the URL of Redis must start with redis://, rediss:// or unix://")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = query.keys() - _PARAMETERS
    if unknown:
        raise ValueError(f"the URL of Redis has unknown parameters: {', '.join(sorted(unknown))}")
    is_socket = parts.scheme == "unix"
    if is_socket and not parts.path.strip("/"):
        raise ValueError("the URL of Redis must name the path of a socket")
    if not is_socket and not parts.hostname:
        raise ValueError("the URL of Redis must name a host")
    is_cluster = _flag("cluster", query.get("cluster"))
    database = _number(query.get("db") or ("" if is_socket else parts.path.strip("/")))
    if is_cluster and (database or is_socket):
        raise ValueError("a Redis Cluster has a host, and no database but 0")
    checks_host = _flag("ssl_check_hostname", query.get("ssl_check_hostname"))
    return RedisAddress(
        host=parts.hostname or "",
        port=port,
        path=unquote(parts.path) if is_socket else None,
        database=database,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        is_encrypted=parts.scheme == "rediss",
        is_cluster=is_cluster,
        ca_certs=query.get("ssl_ca_certs"),
        certfile=query.get("ssl_certfile"),
        keyfile=query.get("ssl_keyfile"),
        checks_host=checks_host is not False,
    )


def _flag(name: str, text: str | None) -> bool | None:
    if text is None:
        return None
    if text.lower() not in _WORDS:
        raise ValueError(f"{name} in the URL of Redis must be true or false")
    return _WORDS[text.lower()]


def _number(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise ValueError("the database in the URL of Redis must be a number")
    return int(text)


def slot_of(key: bytes) -> int:
    """Which slot of a cluster ``key`` is in: that of what stands in its first braces, if anything.

    Redis's CRC16 is the one of XMODEM, which `binascii.crc_hqx` computes.
    """
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


def grouped(keys: Sequence[bytes], *, by_slot: bool, most: int) -> list[list[int]]:
    """The numbers of ``keys``, in groups of up to ``most`` that one script may take together."""
    slots: dict[int, list[int]] = {}
    for number, key in enumerate(keys):
        slots.setdefault(slot_of(key) if by_slot else 0, []).append(number)
    return [
        numbers[start : start + most]
        for numbers in slots.values()
        for start in range(0, len(numbers), most)
    ]
