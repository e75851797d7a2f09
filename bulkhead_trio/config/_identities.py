"""As whom requests go out: declared in TOML, single values overridden by the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from bulkhead_trio.config import _rules as rules
from bulkhead_trio.config._identity import IdentitySettings
from bulkhead_trio.config._rules import Rule, is_blank, shown
from bulkhead_trio.config._tiers import NAME, Raw, no_such, printable
from bulkhead_trio.config.mistakes import Mistake

PREFIX = "BULKHEAD_IDENTITIES"
TABLE = "identities"

MOST_PREFIXES = 100

_HERE = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.\-]{0,252}[a-z0-9_])?|[0-9a-f:.]+")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@\-]*)*")
_SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")


def _token_url(value: object) -> str:
    """HTTPS, for a secret is sent there; plain HTTP does not leave this machine."""
    found = _web_url(value)
    parts = urlsplit(found)
    if parts.scheme == "http" and parts.hostname not in _HERE:
        raise ValueError("must begin with https://, unless it is on this machine")
    return found


def _prefix(value: object) -> str:
    """An origin, and a path where there is one."""
    found = _web_url(value)
    if not _PATH.fullmatch(urlsplit(found).path) or "?" in found:
        raise ValueError("must be URLs of plain paths, without a query")
    if any(segment in (".", "..") for segment in urlsplit(found).path.split("/")):
        raise ValueError("must be URLs without segments of dots")
    return found


def _web_url(value: object) -> str:
    """A URL of the web, without a user in it."""
    found = rules.header_value(value)
    try:
        parts = urlsplit(found)
        is_right = parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right or not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise ValueError("must be a URL that starts with https:// or http:// and names a host")
    if "@" in parts.netloc or "#" in found:
        raise ValueError("must have neither a user nor a fragment")
    return found


def _scope(value: object) -> str:
    found = rules.text(value)
    if not _SCOPE.fullmatch(found):
        raise ValueError("must be words of visible ASCII with single blanks between them")
    return found


def _word(value: object) -> str:
    found = rules.text(value)
    if not found:
        raise ValueError("must not be empty")
    return found


def _secret_in(value: object) -> str:
    """The secret that a file holds, without what surrounds it."""
    path = rules.directory(value)
    try:
        return _word(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it has no secret in it"
        raise ValueError(f"cannot be read: {reason}") from None


_RULES: Mapping[str, Rule[Any]] = {
    "token_url": _token_url,
    "client_id": _word,
    "client_secret": _word,
    "client_secret_file": _secret_in,
    "scope": _scope,
    "audience": rules.listed(_prefix, most=MOST_PREFIXES),
}
_SECRETS = ("client_secret", "client_secret_file")
_REQUIRED = ("token_url", "client_id", "audience")


@attrs.define
class _Declared:
    name: str
    source: str
    values: dict[str, Raw] = attrs.field(factory=dict)

    @property
    def variable(self) -> str:
        return variable_of(self.name)


def variable_of(name: str) -> str:
    """How the environment names an identity."""
    return f"{PREFIX}__{name.upper().replace('-', '_')}"


def read_identities(
    table: object, source: str, environ: Mapping[str, str], mistakes: list[Mistake]
) -> tuple[tuple[IdentitySettings, ...], Mapping[str, str]]:
    """Read every identity, adding what is wrong to ``mistakes``; as `read_tiers` does.

    Args:
        table: TOML's ``identities``; ``None`` where there is none.
        source: the name of the TOML file.
        environ: the environment.
        mistakes: where mistakes are added.
    """
    if table is not None and not isinstance(table, dict):
        wanted = f"must be tables: [{TABLE}.NAME]"
        mistakes.append(Mistake(PREFIX, f"{wanted}, not {shown(table)}", source))
        return (), {}
    declared = list(_declared(table or {}, source, mistakes))
    _override(declared, environ, mistakes)
    found = [_identity(each, mistakes.append) for each in declared]
    origins = {
        f"{each.variable}__{field.upper()}": raw.source
        for each in declared
        for field, raw in each.values.items()
    }
    return tuple(each for each in found if each is not None), origins


def _declared(table: dict[str, Any], source: str, mistakes: list[Mistake]) -> Iterator[_Declared]:
    seen: dict[str, str] = {}
    for name, fields in table.items():
        identity = _Declared(name, f"{source}, [{TABLE}.{printable(name)}]")
        variable = printable(identity.variable)
        if not NAME.fullmatch(name):
            wanted = "a lower-case letter, then up to 31 of a-z, 0-9, '_' and '-'"
            reason = f"the identity's name {shown(name)} must be {wanted}"
            mistakes.append(Mistake(PREFIX, reason, source))
        elif identity.variable in seen:
            reason = f"stands for both {seen[identity.variable]} and {name}: rename one of them"
            mistakes.append(Mistake(variable, reason, source))
        seen.setdefault(identity.variable, name)
        if not isinstance(fields, dict):
            mistakes.append(Mistake(variable, f"must be a table, not {shown(fields)}", source))
            continue
        for field, value in fields.items():
            if field not in _RULES:
                reason = no_such(" of an identity", field, _RULES)
                wrong = printable(f"{identity.variable}__{field.upper()}")
                mistakes.append(Mistake(wrong, reason, identity.source))
            elif not is_blank(value):
                identity.values[field] = Raw(value, identity.source)
        if all(field in identity.values for field in _SECRETS):
            reason = "must not be there beside CLIENT_SECRET"
            mistakes.append(Mistake(f"{variable}__CLIENT_SECRET_FILE", reason, identity.source))
            del identity.values["client_secret_file"]
        yield identity


def _override(
    declared: list[_Declared], environ: Mapping[str, str], mistakes: list[Mistake]
) -> None:
    by_variable = {each.variable: each for each in reversed(declared)}
    source = "the environment"
    for name, value in environ.items():
        if not name.startswith(PREFIX) or is_blank(value):
            continue
        variable, _, field = name.rpartition("__")
        field = field.lower()
        identity = by_variable.get(variable.upper())
        if not variable.startswith(f"{PREFIX}__"):
            reason = f"must be named {PREFIX}__IDENTITY__SETTING"
        elif identity is None:
            known = ", ".join(each.name for each in declared) or "none"
            reason = f"names an identity that does not exist; there are {known}"
        elif field not in _RULES:
            reason = no_such(" of an identity", field, _RULES)
        else:
            if field in _SECRETS:  # one from here takes the place of the file's, whichever it has
                for other in _SECRETS:
                    if identity.values.get(other, Raw("", "")).source != source:
                        identity.values.pop(other, None)
            identity.values[field] = Raw(value, source)
            continue
        mistakes.append(Mistake(printable(name), reason, source))


def _identity(declared: _Declared, add: Callable[[Mistake], None]) -> IdentitySettings | None:
    values: dict[str, Any] = {}
    variable = printable(declared.variable)
    for field, raw in declared.values.items():
        try:
            values[field] = _RULES[field](raw.value)
        except ValueError as error:
            add(Mistake(f"{variable}__{field.upper()}", str(error), raw.source))
    for field in _REQUIRED:
        if field not in declared.values or values.get(field) == ():
            add(Mistake(f"{variable}__{field.upper()}", "is required", declared.source))
    if not any(field in declared.values for field in _SECRETS):
        add(Mistake(f"{variable}__CLIENT_SECRET", "is required, or its _FILE", declared.source))
    secret = values.pop("client_secret_file", None)
    if secret is not None:
        values.setdefault("client_secret", secret)
    if not {*_REQUIRED, "client_secret"} <= values.keys() or not values["audience"]:
        return None
    return IdentitySettings(declared.name, **values)
