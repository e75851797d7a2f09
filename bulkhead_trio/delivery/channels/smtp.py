"""The channel ``smtp``: a notification is a mail, handed to one mail server."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Final, Protocol
from uuid import UUID

import structlog
import trio

from bulkhead_trio.database._public_id_rules import public_id
from bulkhead_trio.database.work_records import NotificationWork
from bulkhead_trio.delivery._message_rules import MOST_RESPONSE_BYTES
from bulkhead_trio.delivery.channels._mail_rules import (
    MailRefused,
    MailServer,
    Reply,
    Trouble,
    mail_address,
    read_smtp_url,
)
from bulkhead_trio.delivery.channels.channel import TRY_SECONDS, BreakerKey, Tried
from bulkhead_trio.delivery.channels.mail_session import Envelope, MailSession
from bulkhead_trio.delivery.channels.message import envelope_of
from bulkhead_trio.http.client import Resolve, resolve_by_system
from bulkhead_trio.policies.bulkhead import ThreadBulkhead, ThreadBulkheadStatistics

__all__ = ["MailDrop", "MailServer", "SMTPChannel", "ThreadedMailDrop", "read_smtp_url"]

OpenSession = Callable[[MailServer, Sequence[str], ssl.SSLContext], MailSession]

_EVERYBODY: Final = UUID(int=0)
"""There is one mail server, for all tenants."""

_log = structlog.get_logger("bulkhead_trio.delivery")


class MailDrop(Protocol):
    """Takes mail, one at a time and several at once."""

    async def hand_over(self, envelope: Envelope, *, seconds: float) -> Reply:
        """Hand a message over within ``seconds``.

        Raises:
            MailRefused: it did not come to that, or not in time.
            Rejected: there was no room of our own.
        """


class ThreadedMailDrop:
    """Hands mail to a server by `smtplib`, each message in a thread of its own.

    Whoever is cancelled, or out of time, leaves at once; the connection is ended under the thread,
    which ends with it and holds its place until then. So there are never more threads than places.

    Args:
        server: takes the mail.
        parallel: messages at once.
        resolve: gives the server's addresses; by default the system's resolver, in a thread.
        tls_context: verifies the server; by default with the system's authorities.
        open_session: makes a session.
    """

    def __init__(
        self,
        server: MailServer,
        *,
        parallel: int,
        resolve: Resolve = resolve_by_system,
        tls_context: ssl.SSLContext | None = None,
        open_session: OpenSession = MailSession,
    ) -> None:
        self.server = server
        self._resolve = resolve
        self._tls_context = tls_context
        self._open_session = open_session
        self._threads = ThreadBulkhead("smtp", parallel, max_wait=TRY_SECONDS)

    async def hand_over(self, envelope: Envelope, *, seconds: float) -> Reply:
        """Hand a message over; errors as from `MailDrop.hand_over`."""
        session: MailSession | None = None
        try:
            with trio.move_on_after(seconds):
                session = await self._session()
                return await self._threads.call(session.hand_over, envelope)
        finally:
            if session is not None:
                session.abort()
        if session is not None and session.reply is not None:
            return session.reply  # only the goodbye was still to come
        raise MailRefused(Trouble.TIMEOUT)

    async def _session(self) -> MailSession:
        try:
            addresses = await self._resolve(self.server.host, self.server.port)
        except OSError as error:
            raise MailRefused(Trouble.NO_HOST) from error
        if self._tls_context is None:
            # It reads the authorities from files, which takes some tens of milliseconds.
            self._tls_context = await trio.to_thread.run_sync(ssl.create_default_context)
        return self._open_session(self.server, addresses, self._tls_context)

    def statistics(self) -> ThreadBulkheadStatistics:
        """How many threads there are now."""
        return self._threads.statistics()


class SMTPChannel:
    """Sends notifications as mail.

    Args:
        drop: takes the mail.
        sender: the address that it comes from.

    Raises:
        ValueError: ``sender`` is no mail address.
    """

    is_shared = True  # there is one mail server

    def __init__(self, drop: MailDrop, *, sender: str) -> None:
        mail_address(sender)
        self._drop = drop
        self._sender = sender

    def breaker_key(self, work: NotificationWork) -> BreakerKey:  # noqa: ARG002
        """One for all: there is one mail server."""
        return _EVERYBODY, "smtp"

    async def deliver(self, work: NotificationWork) -> Tried:
        """Try once; see `Channel.deliver`."""
        try:
            envelope = envelope_of(
                public_id("ntf", work.item_id),
                sender=self._sender,
                recipient=work.recipient,
                subject=work.subject,
                body=work.body,
                created_at=work.created_at,
            )
        except ValueError as error:
            await trio.lowlevel.checkpoint()
            return Tried("dead", error=f"it cannot be a mail: {error}", says_nothing=True)
        try:
            return _judged(await self._drop.hand_over(envelope, seconds=TRY_SECONDS))
        except MailRefused as refusal:
            _log.warning(
                "mail_refused", trouble=refusal.trouble.name, code=refusal.code, text=refusal.text
            )
            # The server, or what is configured of it, is not well: no fault of the message.
            return Tried(
                "retry",
                status=refusal.code,
                error=refusal.trouble.value,
                trips=True,
                is_worth_another=refusal.may_pass,
            )


def _judged(reply: Reply) -> Tried:
    text = "".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in reply.text)
    text = text[:MOST_RESPONSE_BYTES]
    if reply.is_accepted:
        return Tried("delivered", status=reply.code, response=text)
    error = f"the mail server answered {reply.code}"
    if reply.is_final:
        return Tried("dead", status=reply.code, error=error, response=text)
    return Tried(
        "retry",
        status=reply.code,
        error=error,
        response=text,
        trips=reply.speaks_of_server,
        is_worth_another=True,
    )
