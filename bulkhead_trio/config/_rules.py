"""What each kind of value must look like. Pure: text or a TOML value in, the value out.

A rule takes what a source has (text from the environment and the command line; text, numbers,
booleans and lists from TOML) and returns the value, or raises `ValueError` with the reason, worded
to follow the variable's name. Rules for values that may hold a secret never repeat the value.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Rule: TypeAlias = Callable[[object], T]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = (0, 65_535)
"""0 lets the system choose a free port."""

SHOWN_CHARACTERS = 60
"""How much of a wrong value a mistake repeats: enough to find it, never a screenful."""

MOST_LOCAL_CHARACTERS = 64
"""Of a mail address before its ``@``: RFC 5321, 4.5.3.1.1."""

# Longer digit strings are refused before int() and float() see them: int() has a limit of its own.
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]{1,19}(\.[0-9]{0,19})?|\.[0-9]{1,19})(e[+-]?[0-9]{1,3})?", re.I)
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I | re.ASCII)
# What RFC 5321 calls a dot-string; quoted ones are for nobody who sends from a program.
_MAILBOX = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.I | re.A)
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?", re.I | re.ASCII)


def shown(value: object) -> str:
    """A value as a mistake repeats it: short, on one line."""
    if isinstance(value, (str, int, float)):
        text = repr(value)
        return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
    if isinstance(value, dict):
        return "a table"
    return f"a {type(value).__name__}"


def is_blank(value: object) -> bool:
    """Whether a source says nothing at all about a variable."""
    return value is None or (isinstance(value, str) and not value.strip())


def text(value: object) -> str:
    """Any printable text; surrounding blanks are dropped. Never repeats the value."""
    stripped = value.strip() if isinstance(value, str) else "\0"
    if not stripped.isprintable():
        raise ValueError("must be text of printable characters")
    return stripped


def header_value(value: object) -> str:
    """Text that can travel in an HTTP header: visible ASCII. Never repeats the value."""
    found = text(value)
    if not found.isascii() or " " in found:
        raise ValueError("must be visible ASCII characters without blanks")
    return found


def directory(value: object) -> Path:
    """A path; ``~`` stands for the home directory."""
    try:
        return Path(text(str(value) if isinstance(value, Path) else value)).expanduser()
    except RuntimeError:
        raise ValueError(
            f"must be a path whose home directory exists, not {shown(value)}"
        ) from None


def flag(value: object) -> bool:
    """A yes or no."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError(f"must be true or false, not {shown(value)}")


def choice(*names: str) -> Rule[str]:
    """One of some words, in any case."""
    listed = ", ".join(names[:-1]) + f" or {names[-1]}"

    def rule(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in names:
            raise ValueError(f"must be {listed}, not {shown(value)}")
        return word

    return rule


def whole(low: int, high: int) -> Rule[int]:
    """A whole number within bounds, both included."""

    def rule(value: object) -> int:
        number: object = value
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            number = int(value)
        if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
            return number
        raise ValueError(f"must be a whole number from {low} to {high}, not {shown(value)}")

    return rule


def seconds(low: float, high: float, *, what: str = "a number of seconds") -> Rule[float]:
    """A finite number, of seconds unless said otherwise, within bounds, both included."""

    def rule(value: object) -> float:
        number: object = value
        if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
            number = float(value)
        # NaN compares false with every bound, and infinity is beyond them.
        if (
            isinstance(number, (int, float))
            and not isinstance(number, bool)
            and low <= number <= high
        ):
            return float(number)
        raise ValueError(f"must be {what} from {low:g} to {high:.0f}, not {shown(value)}")

    return rule


def or_none(rule: Rule[T]) -> Rule[T | None]:
    """What ``rule`` takes, or the word ``none``."""

    def with_none(value: object) -> T | None:
        if isinstance(value, str) and value.strip().lower() == "none":
            return None
        try:
            return rule(value)
        except ValueError as error:
            raise ValueError(str(error).replace("must be ", "must be none or ", 1)) from None

    return with_none


def or_blank(rule: Rule[T], *, meaning: str) -> Rule[T | None]:
    """What ``rule`` takes, or nothing at all, which means ``meaning``."""

    def with_blank(value: object) -> T | None:
        if is_blank(value):
            return None
        try:
            return rule(value)
        except ValueError as error:
            raise ValueError(f"{error} (empty: {meaning})") from None

    return with_blank


def listed(rule: Rule[T], *, most: int) -> Rule[tuple[T, ...]]:
    """A TOML list, or text with commas; the word ``none`` is the empty list."""

    def with_many(value: object) -> tuple[T, ...]:
        # Anything that is no list is a list of one: its rule knows best what is wrong with it.
        found: list[object] = [*value] if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, str):
            found = [] if value.strip().lower() == "none" else [*value.split(",")]
        if len(found) > most:
            raise ValueError(f"must have at most {most} entries, not {len(found)}")
        return tuple(rule(entry) for entry in found)

    return with_many


def tenant_id(value: object) -> uuid.UUID:
    """A tenant's id."""
    if isinstance(value, uuid.UUID):
        return value
    found = value.strip() if isinstance(value, str) else ""
    if not _UUID.fullmatch(found):
        raise ValueError(f"must be ids of tenants (UUIDs), not {shown(value)}")
    return uuid.UUID(found)


def mail_address(value: object) -> str:
    """A mail address alone, without a name before it: ``local@host``, ASCII, as SMTP says it."""
    found = value.strip() if isinstance(value, str) else ""
    local, _, domain = found.rpartition("@")
    is_host = bool(_HOST_NAME.fullmatch(domain)) and ".." not in domain
    if len(local) > MOST_LOCAL_CHARACTERS or not _MAILBOX.fullmatch(local) or not is_host:
        raise ValueError(f"must be a mail address such as alerts@example.com, not {shown(value)}")
    return found


def network(value: object) -> Network:
    """An IP network in CIDR notation; an address alone is a network of one."""
    if isinstance(value, str):
        try:
            return ipaddress.ip_network(value.strip())
        except ValueError as error:
            if "has host bits set" in str(error):
                raise ValueError(
                    f"must be networks without host bits, not {shown(value.strip())}"
                ) from None
    raise ValueError(f"must be networks such as 10.0.0.0/8 or fd00::/8, not {shown(value)}")


def host(value: object) -> str:
    """A host name or an IP address to listen on; ``[...]`` around IPv6 is taken off."""
    found = value.strip() if isinstance(value, str) else ""
    bare = found[1:-1] if found.startswith("[") and found.endswith("]") else found
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        looks_numeric = not found.replace(".", "").strip("0123456789")
        if _HOST_NAME.fullmatch(found) and not looks_numeric and ".." not in found:
            return found.lower()
    raise ValueError(
        f"must be a host name or an IP address (0.0.0.0 or :: for all), not {shown(value)}"
    )
