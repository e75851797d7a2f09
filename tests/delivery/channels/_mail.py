"""Notifications, mail servers that do as they are told, and channels that send to them."""

from __future__ import annotations

import datetime
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final
from uuid import UUID

import attrs
import msgspec

from bulkhead_trio.database.work_records import Finished, Lane, NotificationWork
from bulkhead_trio.delivery.channels.mail_session import Envelope

MOMENT: Final = datetime.datetime(2026, 2, 11, 12, 0, tzinfo=datetime.UTC)
NOTIFICATION_ID: Final = "ntf_000000000000000000000000000000aa"
ENVELOPE: Final = Envelope("a@shop.example", "ann@example.com", b"Subject: x\r\n\r\n.\r\nhello\r\n")


def work(channel: str = "smtp", recipient: str = "ann@example.com", **members: Any) -> Any:
    """A claimed notification that nobody has tried yet."""
    made = NotificationWork(
        item_id=UUID(int=0xAA),
        seq=1,
        attempts=0,
        tenant_id=UUID(int=2),
        queue_id=UUID(int=3),
        lane=Lane.FIRST,
        lease_until=MOMENT,
        created_at=MOMENT,
        scheduled_since=MOMENT,
        channel=channel,
        recipient=recipient,
        subject="Grüße",
        body="hello, 世界",
    )
    return msgspec.structs.replace(made, **members)


def told(finished: Finished) -> tuple[str, int | None, str | None]:
    """What became of it, the status, and the error."""
    attempt = finished.attempt
    assert attempt is not None
    return finished.outcome, attempt.status, attempt.error


GREETING: Final = b"220 here\r\n"
EHLO: Final = b"250 here\r\n"
GOOD: Final[Sequence[bytes]] = (
    GREETING, EHLO, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 taken\r\n", b"221 bye\r\n",
)  # fmt: skip
"""What a server says that takes a message: unasked, then to each command, and to the text."""


@attrs.define
class Seen:
    """What a scripted server was told: each connection's lines; and whether there was one."""

    port: int = 0
    has_come: threading.Event = attrs.field(factory=threading.Event)
    connections: list[list[bytes]] = attrs.field(factory=list)


@contextmanager
def scripted_server(*replies: bytes, then: str = "close") -> Iterator[Seen]:
    """Says these to each connection, one after each line (or message), and then closes or waits.

    It runs in threads, as mail servers are elsewhere: it knows neither Trio nor its clock.
    """
    seen = Seen()
    is_over = threading.Event()
    threads: list[threading.Thread] = []

    def hear(file: BinaryIO, lines: list[bytes], *, is_text: bool) -> bool:
        while line := file.readline():
            lines.append(line)
            if not is_text or line == b".\r\n":
                return True
        return False

    def talk(connection: socket.socket, lines: list[bytes]) -> None:
        with connection, connection.makefile("rb") as file, suppress(OSError):
            for number, reply in enumerate(replies):
                if number and not hear(file, lines, is_text=replies[number - 1][:3] == b"354"):
                    return
                connection.sendall(reply)
            if then == "wait":
                is_over.wait(10)
            elif then == "drip":
                while not is_over.wait(0.01):
                    connection.sendall(b"2")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen.port = listener.getsockname()[1]

        def accept() -> None:
            while not is_over.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                seen.connections.append([])
                seen.has_come.set()
                thread = threading.Thread(target=talk, args=(connection, seen.connections[-1]))
                threads.append(thread)
                thread.start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield seen
        finally:
            is_over.set()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(5)
            for thread in threads:
                thread.join(5)
