"""Mail servers, addresses, and what a mail server's reply means. Pure."""

from __future__ import annotations

import base64
import enum
import re
import unicodedata
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

Protection: TypeAlias = Literal["implicit", "require", "try", "never"]
"""TLS from the beginning; STARTTLS or nothing; STARTTLS where it is offered; none."""

PORTS: Final = {"smtp": 25, "smtps": 465}
STARTTLS_WORDS: Final[tuple[Protection, ...]] = ("require", "try", "never")

LONGEST_ADDRESS: Final = 254
LONGEST_LOCAL: Final = 64
"""Characters: RFC 5321, sections 4.5.3.1.1 and 4.5.3.1.3, and its erratum 1690."""

LONGEST_SUBJECT: Final = 998
"""Characters, as in a line of RFC 5322."""

LONGEST_PLAIN: Final = 60
"""Characters of a subject that is written as it is: with its name, in one short line."""

WORD_BYTES: Final = 39
"""Of text in one encoded word: with ``Subject:`` before it, in one line of the 76 characters that a
line with such a word may have (RFC 2047, section 2)."""

_PLAIN_SUBJECT: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+"
_LOCAL: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]{0,61}[A-Za-z0-9_])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


# --- where to ------------------------------------------------------------------------------------


@attrs.frozen
class MailServer:
    """Whom mail is handed to.

    Attributes:
        host: a name or an address.
        port: 1 to 65535.
        protection: what is known of TLS.
        user: ``None``: nobody says who they are.
        password: of the user.
    """

    host: str
    port: int
    protection: Protection
    user: str | None = None
    password: str = attrs.field(default="", repr=False)

    @property
    def may_say_password_openly(self) -> bool:
        """Whether the password may be sent without TLS: told so, or never leaving this machine."""
        return self.protection == "never" or self.host in ("localhost", "127.0.0.1", "::1")


def read_smtp_url(url: str) -> MailServer:
    """The server that ``smtp://[user:password@]host[:port][?starttls=require|try|never]`` names.

    ``smtps://`` is TLS from the beginning. Special characters are written as ``%XX``.

    Raises:
        ValueError: it is none. Nothing of it is repeated: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("must be a URL with a valid host, port and query") from None
    if parts.scheme not in PORTS or not parts.hostname or parts.fragment:
        raise ValueError("must be smtp://host or smtps://host")
    if parts.path not in ("", "/"):
        raise ValueError("must not have a path")
    if port == 0:
        raise ValueError("must have a port from 1 to 65535")
    user = unquote(parts.username or "") or None
    password = unquote(parts.password or "")
    if user is None and password:
        raise ValueError("must have a user where it has a password")
    if not all(_is_plain(each) for each in (user or "", password)):
        raise ValueError("must have a user and a password of visible ASCII characters")
    return MailServer(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        protection=_protection(parts.scheme, options),
        user=user,
        password=password,
    )


def _protection(scheme: str, options: list[tuple[str, str]]) -> Protection:
    if scheme == "smtps":
        if options:
            raise ValueError("must not have a query: smtps:// is TLS from the beginning")
        return "implicit"
    if not options:
        return "try"
    if len(options) == 1 and options[0][0] == "starttls":
        for word in STARTTLS_WORDS:
            if options[0][1] == word:
                return word
    raise ValueError("must have no other query than starttls=require, starttls=try, starttls=never")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


# --- to whom -------------------------------------------------------------------------------------


def mail_address(text: str) -> tuple[str, str]:
    """The two sides of one mail address, as a server is told it: the host's in ASCII (IDNA).

    No name beside it, no list, no quotes, no comment: an address that two programs read differently
    is how a message gets to somebody else.

    Raises:
        ValueError: it is none; the message says why, to follow the member's name.
    """
    local, at, domain = text.rpartition("@")
    if not at or len(text) > LONGEST_ADDRESS:
        raise ValueError("must be one mail address, such as name@example.com")
    # What looks like an encoded word (RFC 2047) is decoded by programs that should not.
    if len(local) > LONGEST_LOCAL or not _LOCAL.fullmatch(local) or "=?" in local:
        raise ValueError(
            "must have letters, digits and signs without blanks before its @, in ASCII"
        )
    host = _host_in_ascii(domain)
    if not _DOMAIN.fullmatch(host) or len(local) + 1 + len(host) > LONGEST_ADDRESS:
        raise ValueError("must have a host's name after its @")
    return local, host


def _host_in_ascii(domain: str) -> str:
    """The name that is looked up for ``domain``; empty where that is another one's.

    IDNA folds: a long s is an s, and a sharp s is two to one program and itself to another. Upper
    case, and the way in which accents are put together, make no other name.
    """
    if domain.isascii():
        return domain
    try:
        host = domain.encode("idna").decode("ascii")
        read_back = host.encode("ascii").decode("idna")
    except UnicodeError:
        return ""
    return host if read_back.lower() == unicodedata.normalize("NFC", domain.lower()) else ""


def subject_mistake(text: str) -> str | None:
    """What is wrong with a subject: what ends a line would begin another header."""
    if len(text) > LONGEST_SUBJECT:
        return f"must have at most {LONGEST_SUBJECT} characters"
    if not text.isprintable():
        return "must have printable characters only, on one line"
    return None


def subject_field(text: str) -> str:
    """A subject as it stands in the head, such that a mail reader shows ``text``, literally.

    Short ASCII is written as it is. Everything else is encoded words of UTF-8 in base64 (RFC 2047),
    each with whole characters only, a line each: also what looks like an encoded word itself, and
    blanks at the ends, which readers take off.
    """
    if not text:
        return ""
    if len(text) <= LONGEST_PLAIN and _PLAIN_SUBJECT.fullmatch(text) and "=?" not in text:
        return text
    words, word = [], b""
    for character in text:
        encoded = character.encode()
        if len(word) + len(encoded) > WORD_BYTES:
            words.append(word)
            word = b""
        word += encoded
    words.append(word)
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(each).decode('ascii')}?=" for each in words)


def body_mistake(text: str) -> str | None:
    """What is wrong with a text."""
    return "must not have the character NUL" if "\0" in text else None


# --- what came of it -----------------------------------------------------------------------------


class Stage(enum.Enum):
    """What a reply is about: the session as such, or the message."""

    SESSION = "session"
    MESSAGE = "message"


class Trouble(enum.Enum):
    """Why there is no reply, with what the tenant is told. No text names the server."""

    NO_HOST = "the mail server's name has no address"
    NO_CONNECTION = "the mail server could not be reached"
    REFUSED = "the mail server refused the connection"
    CERTIFICATE = "the mail server's certificate could not be verified"
    TLS = "TLS with the mail server could not be agreed on"
    NO_TLS = "the mail server offers no TLS, which is required"
    TIMEOUT = "the mail server did not answer in time"
    BROKEN_OFF = "the mail server ended the connection"
    NO_REPLY = "what the mail server sent is no reply of SMTP"
    SESSION = "the mail server refused the session"
    LOGIN = "the mail server did not take the login"


_LASTING: Final = (
    Trouble.CERTIFICATE, Trouble.TLS, Trouble.NO_TLS, Trouble.SESSION, Trouble.LOGIN,
)  # fmt: skip


class MailRefused(Exception):
    """Nothing was handed over, and it is not about the message.

    Attributes:
        trouble: why.
        code: of the server's reply, where there was one.
        text: its words; for logs.
    """

    def __init__(self, trouble: Trouble, *, code: int | None = None, text: str = "") -> None:
        super().__init__(trouble.value)
        self.trouble = trouble
        self.code = code
        self.text = text

    @property
    def may_pass(self) -> bool:
        """Whether it may be over in a moment; a wrong password said again locks the account."""
        if self.code is not None and self.code < 500:
            return True
        return self.trouble not in _LASTING


@attrs.frozen
class Reply:
    """What a mail server says of a message.

    Attributes:
        code: three digits; 250 is that it is now the server's affair.
        text: what it says beside.
    """

    code: int
    text: str

    @property
    def is_accepted(self) -> bool:
        """Whether it takes the message over."""
        return 200 <= self.code < 300

    @property
    def is_final(self) -> bool:
        """Whether it would say the same again (RFC 5321, section 4.2.1)."""
        return 500 <= self.code < 600

    @property
    def speaks_of_server(self) -> bool:
        """Whether it says that the server is not well: 421, it is about to close."""
        return self.code == 421
