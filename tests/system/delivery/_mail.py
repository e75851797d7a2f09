"""A real SMTP server in a thread, which keeps what it gets and refuses what it is told to."""

from __future__ import annotations

import email
import email.policy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any

import attrs
from aiosmtpd.controller import Controller

from .._server import free_port


@attrs.frozen
class Mail:
    """One message.

    Attributes:
        at: when all of it had come, in seconds of the machine's monotonic clock.
    """

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage
    at: float

    @property
    def subject(self) -> str:
        """Its header ``Subject``."""
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        """Its text, line ends as in Python."""
        part = self.message.get_body(("plain",))
        assert part is not None, str(self.message)
        return str(part.get_content()).replace("\r\n", "\n")


class _Handler:
    def __init__(self) -> None:
        self.taken: list[Mail] = []
        self.refusals: list[str] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.taken.append(
            Mail(envelope.mail_from, tuple(envelope.rcpt_tos), message, time.monotonic())
        )
        return "250 taken"


class MailServer:
    """See `running_mail_server`."""

    def __init__(self, handler: _Handler, port: int) -> None:
        self._handler = handler
        self.port = port

    @property
    def url(self) -> str:
        """For ``SMTP_URL``."""
        return f"smtp://127.0.0.1:{self.port}"

    def mails(self) -> list[Mail]:
        """What was taken, the oldest first."""
        return list(self._handler.taken)

    def to(self, recipient: str) -> list[Mail]:
        """What was taken for one recipient."""
        return [mail for mail in self.mails() if recipient in mail.recipients]

    @property
    def refusals_left(self) -> int:
        """How many of the answers of `refuse_next` nobody has got yet."""
        return len(self._handler.refusals)

    def refuse_next(self, *answers: str) -> None:
        """The next messages get these answers, such as ``"451 later"``."""
        self._handler.refusals.extend(answers)


@contextmanager
def running_mail_server() -> Iterator[MailServer]:
    """It listens while inside."""
    handler = _Handler()
    controller = Controller(handler, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield MailServer(handler, controller.port)
    finally:
        controller.stop()
