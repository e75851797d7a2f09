"""The client credentials grant of OAuth 2.0 (RFC 6749, section 4.4), without the network. Pure."""

from __future__ import annotations

import base64
import re
from typing import Final
from urllib.parse import quote_plus, urlencode

import attrs
import msgspec

SPARE_SECONDS: Final = 30.0
"""A token is not used in the last seconds of its life: it has to arrive, and clocks differ."""

SPARE_SHARE: Final = 0.1
"""Of a short life it is this share of it instead."""

LEAD_SECONDS: Final = 60.0
"""So long before a token is of no use any more, at the earliest, another one is asked for."""

LEAD_SHARE: Final = 0.2
"""Of a short life it is this share of it instead."""

LIFE_UNLESS_SAID: Final = 300.0
"""Where the answer does not say how long a token lives, which RFC 6749 leaves open."""

LONGEST_LIFE: Final = 86_400.0
"""A token is asked for anew once a day at least, whatever is said."""

LONGEST_TOKEN: Final = 16 * 1024
"""Characters; more is no header that servers take."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""What may follow ``Bearer`` (RFC 6750, section 2.1)."""

_SECONDS: Final = re.compile(r"[0-9]{1,15}")
_ERROR_WORD: Final = re.compile(r"[a-z_]{1,40}")


@attrs.frozen
class ClientCredentials:
    """Who asks for tokens, where, and what they are for.

    Attributes:
        token_url: the token endpoint.
        client_id: who.
        client_secret: proves it.
        scope: what is asked for, words with blanks between; ``""`` for the endpoint's default.
        audience_prefixes: URLs that tokens may be sent to, and to whatever is below them.
    """

    token_url: str
    client_id: str
    client_secret: str = attrs.field(repr=False)
    scope: str = ""
    audience_prefixes: tuple[str, ...] = ()


@attrs.frozen
class Token:
    """A token and its times, on the clock that `token_of` was given a time of.

    Attributes:
        value: it.
        life: seconds it was given.
        refresh_at: from then on another one is to be asked for.
        good_until: from then on it is not used.
        ends_at: when its life ends.
    """

    value: str = attrs.field(repr=False)
    life: float
    refresh_at: float
    good_until: float
    ends_at: float


def token_of(value: str, life: float, *, ends_at: float, random: float) -> Token:
    """A token with its times.

    Args:
        value: it.
        life: seconds from its making to its end.
        ends_at: when that is.
        random: from 0 up to but not including 1: instances that share tokens do not all ask for
            the next one at the same time.
    """
    good_until = ends_at - min(SPARE_SECONDS, SPARE_SHARE * life)
    lead = min(LEAD_SECONDS, LEAD_SHARE * life) * (1 - random / 2)
    return Token(value, life, good_until - lead, good_until, ends_at)


class _Packed(msgspec.Struct, array_like=True):
    value: str
    life: float


def pack(token: Token) -> bytes:
    """A token as instances leave it to each other."""
    return msgspec.json.encode(_Packed(token.value, token.life))


def unpack(packed: bytes, *, seconds_left: float, now: float, random: float) -> Token | None:
    """The token that another instance has packed; ``None`` where it is none.

    Args:
        packed: by `pack`.
        seconds_left: of its life.
        now: when that was so, or earlier.
        random: as for `token_of`.
    """
    try:
        found = msgspec.json.decode(packed, type=_Packed)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not _TOKEN.fullmatch(found.value) or not 0 < found.life <= LONGEST_LIFE:
        return None
    ends_at = now + min(seconds_left, found.life)
    return token_of(found.value, found.life, ends_at=ends_at, random=random)


def request_of(credentials: ClientCredentials) -> tuple[list[tuple[str, str]], bytes]:
    """The header and the body that ask for a token; the client says who it is by HTTP Basic."""
    # Both are escaped as in a form before they are joined: RFC 6749, section 2.3.1.
    user, password = quote_plus(credentials.client_id), quote_plus(credentials.client_secret)
    basic = base64.b64encode(f"{user}:{password}".encode("ascii")).decode("ascii")
    form = {"grant_type": "client_credentials"}
    if credentials.scope:
        form["scope"] = credentials.scope
    headers = [
        ("Authorization", f"Basic {basic}"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Accept", "application/json"),
        ("Cache-Control", "no-store"),
    ]
    return headers, urlencode(form).encode("ascii")


class _Answer(msgspec.Struct):
    access_token: str
    token_type: str
    expires_in: int | float | str | None = None


class _Refusal(msgspec.Struct):
    error: str


def read_answer(content: bytes) -> tuple[str, float]:
    """The token in a good answer, and the seconds that it lives.

    Raises:
        ValueError: there is none that can be used. It says why, and nothing of the content.
    """
    try:
        answer = msgspec.json.decode(content, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is no JSON with access_token and token_type") from None
    if answer.token_type.lower() != "bearer":
        raise ValueError("its token_type is not Bearer")
    if len(answer.access_token) > LONGEST_TOKEN or not _TOKEN.fullmatch(answer.access_token):
        raise ValueError("its access_token is nothing that a header can have in it")
    return answer.access_token, _life(answer.expires_in)


def _life(expires_in: int | float | str | None) -> float:
    if expires_in is None:
        return LIFE_UNLESS_SAID
    if isinstance(expires_in, str):  # as some endpoints write it
        if not _SECONDS.fullmatch(expires_in):
            raise ValueError("its expires_in is no number of seconds")
        expires_in = int(expires_in)
    if not 0 < expires_in < float("inf"):
        raise ValueError("its expires_in is no number of seconds above 0")
    return min(float(expires_in), LONGEST_LIFE)


def refusal_word(content: bytes) -> str:
    """Why a token was refused, as ``invalid_client`` (RFC 6749, section 5.2); ``""`` where unsaid.

    Only what is such a word is given: the rest of the answer may repeat what it was asked.
    """
    try:
        word = msgspec.json.decode(content, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return word if _ERROR_WORD.fullmatch(word) else ""


def retry_after(value: str | None) -> float | None:
    """Seconds that ``Retry-After`` asks to wait; ``None`` where it says none, or says a date."""
    return float(value) if value is not None and _SECONDS.fullmatch(value.strip()) else None
