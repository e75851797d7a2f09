"""What `doctor` finds of deliveries: the mail server, and whether stored secrets can be opened."""

from __future__ import annotations

import ssl
from typing import Final
from uuid import UUID

import trio

from bulkhead_trio.cli._checks import Check
from bulkhead_trio.cli._failures import one_line
from bulkhead_trio.config import Settings
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.delivery.channels.smtp import MailServer, read_smtp_url
from bulkhead_trio.delivery.sealing import WEBHOOK_SECRETS, Sealer, Unsealable

MAIL_SECONDS: Final = 5.0
"""For the mail server to be found, reached and to greet; a busy one takes a second or two."""

MOST_REPLY_BYTES: Final = 4096
"""Of one reply: RFC 5321 has lines of 512, and a reply may have some of them."""

NOBODYS_DOMAIN: Final = "@localhost"

SECRETS_ADVICE: Final = (
    "Give the server the SECRET_KEY that it had before; docs/delivery/operating.md."
)

MOST_SECRETS: Final = 10_000
"""That are opened to see whether they can be: at a few microseconds each."""

_SECRETS: Final = """
SELECT w.id, kept.sealed FROM webhooks AS w,
    LATERAL unnest(w.secrets, w.secrets_until) AS kept (sealed, until)
WHERE kept.until IS NULL OR kept.until > now() ORDER BY w.created_at LIMIT %s
"""


async def check_mail(settings: Settings, *, seconds: float = MAIL_SECONDS) -> list[Check]:
    """Whether the mail server is one, and whom mail would come from; nothing without SMTP_URL.

    It is asked what it can do. No mail is sent, and nobody logs in.

    Args:
        settings: all of them.
        seconds: what the server has for that.
    """
    if settings.smtp_url is None:
        return []
    subject = f"SMTP_URL {settings.shown('smtp_url')}"
    checks = [await _check_server(read_smtp_url(settings.smtp_url), subject, seconds)]
    if settings.smtp_from.endswith(NOBODYS_DOMAIN):
        advice = "Set SMTP_FROM to an address of a domain that the mail server sends for."
        finding = "most mail servers refuse mail from there"
        checks.append(Check(f"SMTP_FROM {settings.smtp_from}", "warn", finding, advice))
    return checks


async def check_secrets(connection: Connection, settings: Settings) -> Check:
    """Whether this server's secret key opens the webhooks' secrets; the tables must be there."""
    cursor = await connection.execute(_SECRETS, (MOST_SECRETS,))
    rows = await cursor.fetchall()
    if not rows:
        return Check("webhook secrets", "ok", "there are none")
    secret_key = settings.secret_key or _kept_key(settings)
    if not secret_key:
        finding = f"{len(rows)} are kept, and there is no key to open them with"
        return Check("webhook secrets", "fail", finding, SECRETS_ADVICE)
    sealer = Sealer(secret_key, purpose=WEBHOOK_SECRETS)
    closed = sum(not _opens(sealer, sealed, webhook_id) for webhook_id, sealed in rows)
    if not closed:
        return Check("webhook secrets", "ok", f"{len(rows)} can be opened")
    finding = f"{closed} of {len(rows)} cannot be opened with this SECRET_KEY"
    return Check("webhook secrets", "fail", finding, SECRETS_ADVICE)


def _kept_key(settings: Settings) -> str:
    try:
        return (settings.data_dir / "secret.key").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _opens(sealer: Sealer, sealed: bytes, webhook_id: UUID) -> bool:
    try:
        sealer.unseal(sealed, bound_to=webhook_id)
    except Unsealable:
        return False
    return True


async def _check_server(server: MailServer, subject: str, seconds: float) -> Check:
    advice = "Check SMTP_URL: its host, its port, and smtps:// for TLS from the beginning."
    try:
        with trio.fail_after(seconds):
            greeting, abilities = await _ask(server)
    except trio.TooSlowError:
        return Check(subject, "fail", f"no answer within {seconds:g} s", advice)
    except (OSError, trio.BrokenResourceError) as error:
        cause = error.__cause__
        told = cause if isinstance(cause, ssl.SSLError) else error
        return Check(subject, "fail", one_line(told), advice)
    if not greeting.startswith(b"220"):
        words = greeting.decode("ascii", "replace").split("\n")[0].strip()
        finding = f"it says {words[:60]!r}" if words else "it hangs up without a greeting"
        return Check(subject, "fail", finding, advice)
    if server.protection == "implicit":
        return Check(subject, "ok", "answers, with TLS")
    if b"STARTTLS" in abilities.upper():
        is_used = server.protection != "never"
        return Check(subject, "ok", f"answers, {'with' if is_used else 'without'} TLS")
    has_password = server.user is not None and not server.may_say_password_openly
    if server.protection == "require" or has_password:
        advice = (
            "Without TLS neither mail nor a password goes there: use another port, or smtps://."
        )
        return Check(subject, "fail", "it offers no TLS", advice)
    return Check(subject, "ok", "answers, without TLS")


async def _ask(server: MailServer) -> tuple[bytes, bytes]:
    """A server's greeting, and what it says that it can do; empty where it says nothing.

    Raises:
        OSError: it cannot be reached.
        trio.BrokenResourceError: the connection, or TLS on it, broke.
    """
    connection = await trio.open_tcp_stream(server.host, server.port)
    stream: trio.abc.Stream = connection
    try:
        if server.protection == "implicit":
            context = await trio.to_thread.run_sync(ssl.create_default_context)
            stream = trio.SSLStream(connection, context, server_hostname=server.host)
        greeting = await _reply(stream)
        if not greeting.startswith(b"220"):
            return greeting, b""
        await stream.send_all(b"EHLO localhost\r\n")
        abilities = await _reply(stream)
        await stream.send_all(b"QUIT\r\n")
        return greeting, abilities
    finally:
        await trio.aclose_forcefully(connection)


async def _reply(stream: trio.abc.Stream) -> bytes:
    """All lines of a reply: of its last one the code is followed by a blank, if by anything."""
    said = b""
    while len(said) < MOST_REPLY_BYTES:
        more = await stream.receive_some()
        said += more
        last = said.splitlines()[-1] if said else b""
        if not more or (said.endswith(b"\n") and last[3:4] != b"-"):
            break
    return said
