"""Mail servers' URLs, addresses, and what is refused in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.config import load_settings
from bulkhead_trio.delivery.channels._mail_rules import (
    MailServer,
    body_mistake,
    mail_address,
    read_smtp_url,
    subject_mistake,
)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail", MailServer("mail", 25, "try")),
        ("smtp://mail:587/?starttls=require", MailServer("mail", 587, "require")),
        ("smtp://mail?starttls=never", MailServer("mail", 25, "never")),
        ("smtp://[::1]:2525", MailServer("::1", 2525, "try")),
        ("smtps://u:p@mail", MailServer("mail", 465, "implicit", "u", "p")),
        ("smtp://a%40b:p%3A%2F%40@mail", MailServer("mail", 25, "try", "a@b", "p:/@")),
    ],
)
def test_smtp_url_names_a_server(url: str, server: MailServer) -> None:
    """With its port, its user, and what is known of TLS."""
    assert read_smtp_url(url) == server


@pytest.mark.parametrize(
    "url",
    [
        "http://hush@mail",
        "smtp://",
        "smtp:mail",
        "smtp://mail:0",
        "smtp://mail:99999",
        "smtp://mail/path",
        "smtp://mail?starttls=maybe",
        "smtp://mail?starttls=try&starttls=never",
        "smtp://mail?tls=1",
        "smtps://mail?starttls=require",
        "smtp://:hush@mail",
        "smtp://u:h%C3%BCsh@mail",
        "smtp://u:hush%0A@mail",
    ],
)
def test_smtp_url_that_is_none_is_refused(url: str) -> None:
    """With a reason that repeats nothing: there may be a password in it."""
    with pytest.raises(ValueError, match=r"^must") as caught:
        read_smtp_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "sender"),
    [
        ("smtp://mail:25", "bulkhead-trio@localhost"),
        ("smtp://u:p%40@mail?starttls=require", "a+b@my_host.example"),
        ("smtps://u@[::1]", "ops@10.0.0.1"),
        ("smtp://mail/", "ops@example.com"),
    ],
)
def test_what_configuration_takes_is_taken_here(url: str, sender: str) -> None:
    """Nothing is found wrong when the first mail goes out."""
    settings = load_settings(environ={"SMTP_URL": url, "SMTP_FROM": sender}, overrides={})
    assert settings.smtp_url is not None
    assert read_smtp_url(settings.smtp_url).port
    assert mail_address(settings.smtp_from)


def test_password_is_said_openly_only_where_told_so_or_at_home() -> None:
    """And it is in no repr."""
    assert not read_smtp_url("smtp://u:hush@mail").may_say_password_openly
    assert read_smtp_url("smtp://u:hush@mail?starttls=never").may_say_password_openly
    assert read_smtp_url("smtp://u:hush@127.0.0.1").may_say_password_openly
    assert "hush" not in repr(read_smtp_url("smtp://u:hush@mail"))


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("ann@example.com", ("ann", "example.com")),
        ("o'hara+tag@mail.example.com", ("o'hara+tag", "mail.example.com")),
        ("root@localhost", ("root", "localhost")),
        ("ann@bücher.example", ("ann", "xn--bcher-kva.example")),
        ("ann@BÜCHER.Example", ("ann", "xn--bcher-kva.Example")),
        ("ann@bu\u0308cher.example", ("ann", "xn--bcher-kva.example")),
        ("ann@xn--bcher-kva.example", ("ann", "xn--bcher-kva.example")),
    ],
)
def test_mail_address_has_two_sides(text: str, sides: tuple[str, str]) -> None:
    """The host's in ASCII, as servers are told it."""
    assert mail_address(text) == sides


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "@example.com",
        "ann@",
        "ann@@example.com",
        "ann@example..com",
        "ann@-example.com",
        "ann@exam ple.com",
        "ann@[127.0.0.1]",
        "a..b@example.com",
        ".a@example.com",
        "ann@example.com,bob@example.com",
        "ann@example.com>\r\nRCPT TO:<bob@example.com",
        "ann\r\n@example.com",
        "ann@example.com\n",
        "ann@example.com\0",
        "Ann <ann@example.com>",
        '"ann b"@example.com',
        "ann(x)@example.com",
        "änn@example.com",
        "a@\u017f.de",  # a long s
        "a@stra\u00dfe.de",  # which is strasse.de by one standard, and by another is not
        "a@\uff41.de",  # a wide a
        "a@b\u3002de",  # another full stop
        "a@\u2100.de",  # a/c
        "=?utf-8?q?a?=@example.com",
        "ann@" + "a" * 64 + ".com",
        "a" * 65 + "@example.com",
        "ann@" + ".".join(["a" * 60] * 5),
    ],
)
def test_mail_address_that_could_be_another_is_refused(text: str) -> None:
    """Two addresses, another header, another command, or none at all."""
    with pytest.raises(ValueError, match=r"^must"):
        mail_address(text)


@given(st.text())
def test_mail_address_is_plain_or_refused(text: str) -> None:
    """Whatever it is, nothing gets through that ends a line or a command."""
    try:
        local, host = mail_address(text)
    except ValueError:
        return
    assert f"{local}@{host}".isascii()
    assert not set(f"{local}{host}") & set('\r\n\0 <>,;:"()[]\\@')


@pytest.mark.parametrize("text", ["a\r\nBcc: x@y", "a\nb", "a\rb", "a\0b", "a\u2028b", "a\x85b"])
def test_subject_is_one_line(text: str) -> None:
    """What anybody takes for the end of a line would begin another header."""
    assert subject_mistake(text) is not None


def test_subject_is_any_text() -> None:
    """Up to a line's length."""
    assert subject_mistake("Grüße, 世界 🎉") is None
    assert subject_mistake("a" * 998) is None
    assert subject_mistake("a" * 999) is not None


def test_body_has_no_nul() -> None:
    """Which no mail may have; line ends are its own affair."""
    assert body_mistake("a\r\nb\n.\nc") is None
    assert body_mistake("a\0b") is not None
