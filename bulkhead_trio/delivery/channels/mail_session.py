"""One session with a mail server, in a thread: `smtplib`, which waits where it stands.

A thread cannot be cancelled. So every wait has a limit, what is read has one, and `abort`, called
from anywhere, ends the connection under whatever waits for it: the thread then ends at once.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from bulkhead_trio.delivery.channels._mail_rules import MailRefused, MailServer, Reply, Trouble

CONNECT_SECONDS: Final = 10.0
"""For one address."""

WAIT_SECONDS: Final = 30.0
"""For one thing that the server is waited for."""

GOODBYE_SECONDS: Final = 1.0
"""What the server gets to answer a goodbye: by then it has the message."""

MOST_REPLY_BYTES: Final = 64 * 1024
"""Of all that a server says in one session."""

READY, GO_AHEAD, FORWARDS = 220, 250, 251


@attrs.frozen
class Envelope:
    """A message and its way.

    Attributes:
        sender: who is told when it cannot be delivered.
        recipient: to whom.
        content: all of the message.
    """

    sender: str
    recipient: str
    content: bytes = attrs.field(repr=False)


class MailSession:
    """One session, for one message and one thread.

    Args:
        server: whom to talk to.
        addresses: its own, tried one after the other.
        tls_context: verifies it.

    Attributes:
        reply: what became of the message, from when it is known; the goodbye comes after that.
    """

    def __init__(
        self, server: MailServer, addresses: Sequence[str], tls_context: ssl.SSLContext
    ) -> None:
        self.reply: Reply | None = None
        self.server = server
        self.tls_context = tls_context
        self._addresses = tuple(addresses)
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._is_aborted = False

    def hand_over(self, envelope: Envelope) -> Reply:
        """Hand a message over; blocks.

        Raises:
            MailRefused: it did not come to that.
        """
        client = _Client(self)
        try:
            _begin(client, self.server, self.tls_context)
            reply = self.reply = _hand_over(client, envelope)
            with suppress(OSError):  # smtplib's errors are such
                if client.sock is not None:
                    client.sock.settimeout(GOODBYE_SECONDS)
                    client.docmd("QUIT")
        except OSError as error:
            raise _refused(error) from error
        else:
            return reply
        finally:
            client.close()
            self._let_go()

    def abort(self) -> None:
        """End it, from whichever thread; nothing once it has ended."""
        with self._lock:
            self._is_aborted = True
            if self._handle is not None:
                with suppress(OSError):  # it may not be connected yet, or not any more
                    self._handle.shutdown(socket.SHUT_RDWR)

    # --- the connection --------------------------------------------------------------------------

    def dial(self) -> socket.socket:
        """A connection to the first address that takes one.

        Raises:
            OSError: none does.
        """
        last: OSError = OSError("no address")
        for address in self._addresses:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            try:
                self._hold(sock)
                sock.settimeout(CONNECT_SECONDS)
                sock.connect((address, self.server.port))
                sock.settimeout(WAIT_SECONDS)
                if self.server.protection == "implicit":
                    return self.tls_context.wrap_socket(sock, server_hostname=self.server.host)
            except OSError as error:
                sock.close()
                self._let_go()
                last = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise last

    def _hold(self, sock: socket.socket) -> None:
        """Keep a descriptor of our own: `smtplib` and `ssl` wrap and close theirs as they like."""
        with self._lock:
            if self._is_aborted:
                raise ConnectionAbortedError("the session was ended")
            self._handle = sock.dup()

    def _let_go(self) -> None:
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None


class _Client(smtplib.SMTP):
    """`smtplib`'s client over a connection that is dialled here, reading no more than a bound."""

    def __init__(self, session: MailSession) -> None:
        # A name is given, for smtplib would ask the DNS for ours, as long as that takes.
        super().__init__(local_hostname="localhost", timeout=WAIT_SECONDS)
        self._session = session
        self._host = session.server.host  # the certificate's, for STARTTLS

    def _get_socket(self, *_: Any) -> socket.socket:
        sock = self._session.dial()
        address = sock.getsockname()[0]
        # RFC 5321, section 4.1.3: whoever has no name that can be looked up says its address.
        self.local_hostname = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
        return sock

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Bounded(self.sock.makefile("rb"))
        return super().getreply()


class _Bounded:
    """What a connection says, up to a bound."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = MOST_REPLY_BYTES

    def readline(self, most: int) -> bytes:
        line: bytes = self._file.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise OSError("the mail server says too much")
        return line

    def close(self) -> None:
        self._file.close()


def _begin(client: _Client, server: MailServer, context: ssl.SSLContext) -> None:
    """Be greeted, have TLS where there is to be some, and log in where there is a user."""
    code, text = client.connect(server.host, server.port)
    if code != READY:
        raise _no_session(code, text)
    client.ehlo_or_helo_if_needed()
    is_secret = server.protection == "implicit"
    offers_tls = client.has_extn("starttls")
    if server.protection == "require" or (server.protection == "try" and offers_tls):
        if not offers_tls:
            raise MailRefused(Trouble.NO_TLS)
        client.starttls(context=context)
        client.ehlo_or_helo_if_needed()
        is_secret = True
    if server.user is None:
        return
    if not is_secret and not server.may_say_password_openly:
        raise MailRefused(Trouble.NO_TLS)
    try:
        client.login(server.user, server.password)
    except smtplib.SMTPServerDisconnected:
        raise
    except smtplib.SMTPException as error:
        # What the server says to a login is not for tenants, and its text may repeat things.
        raise MailRefused(Trouble.LOGIN, code=getattr(error, "smtp_code", None)) from None


def _hand_over(client: _Client, envelope: Envelope) -> Reply:
    """The message's way, to the first reply that is not a good one."""
    size = [f"size={len(envelope.content)}"] if client.has_extn("size") else []
    code, text = client.mail(envelope.sender, size)
    if code != GO_AHEAD:
        return _negative(code, text)
    code, text = client.rcpt(envelope.recipient)
    if code not in (GO_AHEAD, FORWARDS):
        return _negative(code, text)
    try:
        code, text = client.data(envelope.content)
    except smtplib.SMTPDataError as error:
        return _negative(error.smtp_code, _bytes(error.smtp_error))
    return Reply(code, _text(text)) if 200 <= code < 300 else _negative(code, text)


def _negative(code: int, text: bytes) -> Reply:
    """A reply that says no.

    Raises:
        MailRefused: it says something that has no place here.
    """
    if not 400 <= code < 600:
        raise MailRefused(Trouble.NO_REPLY)
    return Reply(code, _text(text))


def _no_session(code: int, text: bytes) -> MailRefused:
    if not 200 <= code < 600:
        return MailRefused(Trouble.NO_REPLY)
    return MailRefused(Trouble.SESSION, code=code, text=_text(text))


def _text(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


_CAUSES: Final[tuple[tuple[type[BaseException], Trouble], ...]] = (
    (ssl.SSLCertVerificationError, Trouble.CERTIFICATE),
    (ssl.SSLError, Trouble.TLS),
    (TimeoutError, Trouble.TIMEOUT),
    (ConnectionRefusedError, Trouble.REFUSED),
    (smtplib.SMTPServerDisconnected, Trouble.BROKEN_OFF),
    (ConnectionError, Trouble.BROKEN_OFF),
)


def _refused(error: OSError) -> MailRefused:
    """What an error means. `smtplib` wraps the socket's own, which say more."""
    if isinstance(error, smtplib.SMTPResponseException):
        return _no_session(error.smtp_code, _bytes(error.smtp_error))
    inner = error.__context__
    for found in (inner, error):
        for kind, trouble in _CAUSES:
            if isinstance(found, kind):
                return MailRefused(trouble)
    return MailRefused(Trouble.NO_CONNECTION)
