"""What `doctor` finds of the mail server: a real socket that says what a test tells it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio
import trustme

from bulkhead_trio.cli._checks import Check
from bulkhead_trio.cli._delivery_checks import check_mail
from bulkhead_trio.config import Settings, load_settings

SENDER = "alerts@example.com"


def settings_for(url: str, sender: str = SENDER) -> Settings:
    return load_settings(environ={"SMTP_URL": url, "SMTP_FROM": sender}, overrides={})


GREETING = b"220-mail.example.com\r\n220 ready\r\n"
PLAIN = b"250-mail.example.com\r\n250 SIZE 1000\r\n"
WITH_TLS = b"250-mail.example.com\r\n250-STARTTLS\r\n250 SIZE 1000\r\n"

MailServer = Callable[..., int]


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    """``mail_server(b"220 hello")``: the port of one that says that, and more after each line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []

        def serve(*said: bytes | None, context: ssl.SSLContext | None = None) -> None:
            connection, _ = listener.accept()
            connection.settimeout(10)
            if context is not None:
                # Not before it is one that something closes.
                connection = context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            with closing(connection), suppress(OSError):
                for each in said:
                    if each is None:  # nothing more, and no end either
                        break
                    connection.sendall(each)
                    heard.append(connection.recv(1000))
                else:
                    connection.shutdown(socket.SHUT_WR)
                while data := connection.recv(1000):
                    heard.append(data)

        threads: list[threading.Thread] = []

        def start(*said: bytes | None, **tls: ssl.SSLContext) -> int:
            threads.append(threading.Thread(target=serve, args=said, kwargs=tls, daemon=True))
            threads[-1].start()
            return int(listener.getsockname()[1])

        yield start
        for thread in threads:
            thread.join(10)
        words = {line.split()[0] for line in b"".join(heard).split(b"\r\n") if line.strip()}
        assert words <= {b"EHLO", b"QUIT"} or heard[0].startswith(b"\x16")  # or TLS's first byte


async def only(settings: Settings) -> Check:
    (check,) = await check_mail(settings)
    return check


async def test_mail_is_not_looked_for_without_a_server() -> None:
    """No SMTP_URL, no check."""
    assert await check_mail(load_settings(environ={}, overrides={})) == []


@pytest.mark.parametrize(
    ("abilities", "credentials", "query", "outcome", "finding"),
    [
        (WITH_TLS, "", "", "ok", "answers, with TLS"),
        (WITH_TLS, "user:hunter2@", "?starttls=require", "ok", "answers, with TLS"),
        (WITH_TLS, "", "?starttls=never", "ok", "answers, without TLS"),
        (PLAIN, "", "", "ok", "answers, without TLS"),
        (PLAIN, "user:hunter2@", "", "ok", "answers, without TLS"),  # it is this machine
        (PLAIN, "", "?starttls=require", "fail", "it offers no TLS"),
        (b"500 what?\r\n", "", "?starttls=require", "fail", "it offers no TLS"),
    ],
)
async def test_mail_server_is_asked_for_tls(
    mail_server: MailServer,
    abilities: bytes,
    credentials: str,
    query: str,
    outcome: str,
    finding: str,
) -> None:
    """It is asked for nothing else, its password neither said nor shown."""
    port = mail_server(GREETING, abilities)
    check = await only(settings_for(f"smtp://{credentials}127.0.0.1:{port}{query}"))
    assert (check.outcome, check.finding) == (outcome, finding)
    assert "hunter2" not in check.subject


@pytest.mark.parametrize(
    ("said", "finding"),
    [
        (b"554 no service here\r\n", "it says '554 no service here'"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it says 'HTTP/1.1 400 Bad Request'"),
        (b"\xff\xfe" + b"x" * 10_000, "it says"),
        (b"", "it hangs up without a greeting"),
    ],
)
async def test_mail_server_that_is_none_fails(
    mail_server: MailServer, said: bytes, finding: str
) -> None:
    """Whatever answers there, the finding is one short line."""
    port = mail_server(said) if said else mail_server()
    check = await only(settings_for(f"smtp://127.0.0.1:{port}"))
    assert check.outcome == "fail"
    assert check.finding.startswith(finding)
    assert check.finding.isprintable()
    assert len(check.finding) < 200
    assert "Check SMTP_URL" in check.advice


@pytest.mark.parametrize("said", [(None,), (b"220-and so on\r\n", None), (GREETING, None)])
async def test_mail_server_that_says_no_more_is_given_up(
    mail_server: MailServer, said: tuple[bytes | None, ...]
) -> None:
    """The wait is bounded, wherever it stops."""
    settings = settings_for(f"smtp://127.0.0.1:{mail_server(*said)}")
    with trio.fail_after(5):
        (check,) = await check_mail(settings, seconds=0.2)
    assert (check.outcome, check.finding) == ("fail", "no answer within 0.2 s")


async def test_mail_server_that_is_not_there_fails() -> None:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert (await only(settings_for(f"smtp://127.0.0.1:{port}"))).outcome == "fail"


async def test_mail_server_with_tls_from_the_beginning_is_ok(
    mail_server: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its certificate is one that this machine believes; another one fails, and says why."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA).configure_cert(context)
    port = mail_server(GREETING, PLAIN, context=context)
    check = await only(settings_for(f"smtps://localhost:{port}"))
    assert check.outcome == "fail"
    assert "certificate" in check.finding.lower()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    mail_server(GREETING, PLAIN, context=context)
    check = await only(settings_for(f"smtps://localhost:{port}"))
    assert (check.outcome, check.finding) == ("ok", "answers, with TLS")


async def test_mail_server_without_tls_fails_for_smtps(mail_server: MailServer) -> None:
    """What it says in the clear is no TLS."""
    check = await only(settings_for(f"smtps://127.0.0.1:{mail_server(GREETING * 10)}"))
    assert check.outcome == "fail"


async def test_mail_from_nobodys_domain_is_a_warning(mail_server: MailServer) -> None:
    """The default sender is good for a server on this machine only."""
    url = f"smtp://127.0.0.1:{mail_server(GREETING, PLAIN)}"
    server, sender = await check_mail(settings_for(url, "bulkhead-trio@localhost"))
    assert (server.outcome, sender.outcome) == ("ok", "warn")
    assert "SMTP_FROM" in sender.subject
