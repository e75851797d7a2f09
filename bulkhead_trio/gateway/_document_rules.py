"""What may stand in a route: its paths, URLs, headers and methods; and what is wrong. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bulkhead_trio.errors import InvalidRequest
from bulkhead_trio.gateway._header_names import SET_BY_US, SET_BY_US_IN_ANSWERS
from bulkhead_trio.gateway._path_rules import normal_path
from bulkhead_trio.gateway._pattern_rules import Pattern, PatternError, Replacement
from bulkhead_trio.gateway._reading_rules import Mistake
from bulkhead_trio.http.client._network_rules import literal_address
from bulkhead_trio.http.client._url_rules import split_url

ANY_METHOD: Final = "*"

LONGEST_PATH: Final = 1024
LONGEST_URL: Final = 2048
LONGEST_NAME: Final = 253
LONGEST_LABEL: Final = 63
LONGEST_HEADER_NAME: Final = 128
LONGEST_HEADER_VALUE: Final = 4096
LARGEST_FALLBACK_BYTES: Final = 64 * 1024

_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]{1,32}")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE: Final = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+\-]+/[a-z0-9!#$&^_.+\-]+(?: ?;[ -~]*)?", re.I)
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#\\]*)((?:/[^?#]*)?)(\?[^#]*)?(#.*)?")
_IDENTITY: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_VISIBLE: Final = re.compile(r"[!-~]*")
_HIDDEN_SLASH: Final = re.compile(r"%(2f|5c)|\\", re.IGNORECASE)
_TAKES_NO_BODY: Final = frozenset([204, 205, 304])


# --- methods -------------------------------------------------------------------------------------


MOST_METHODS: Final = 32


def method_mistakes(method: str | Sequence[str]) -> Iterator[Mistake]:
    """What is wrong with one method, ``"*"``, or a list of methods."""
    if isinstance(method, str):
        if method != ANY_METHOD and (found := method_mistake(method)) is not None:
            yield "", found
        return
    if not method:
        yield "", 'must name a method at least; "*" is all of them'
    if len(method) > MOST_METHODS:
        yield "", f"must name at most {MOST_METHODS} methods"
        return
    seen: set[str] = set()
    for number, each in enumerate(method):
        where = f"[{number}]"
        if each == ANY_METHOD:
            yield where, "stands for all methods, and so must stand alone, not in a list"
        elif each in seen:
            yield where, "is there already"
        elif (found := method_mistake(each)) is not None:
            yield where, found
        seen.add(each)


def method_mistake(method: str) -> str | None:
    """What is wrong with one method."""
    if _METHOD.fullmatch(method.upper()) is None or method == ANY_METHOD:
        return "must be a method, such as GET"
    if method != method.upper():
        return f"must be in upper case, {method.upper()}: methods that differ in case differ"
    return "cannot be passed on" if method == "CONNECT" else None


def by_method_mistakes(values: Mapping[str, int]) -> Iterator[Mistake]:
    """What is wrong with the names of an object's members, which are methods."""
    for name in values:
        if (found := method_mistake(name)) is not None:
            yield f".{name}", found


# --- identities ----------------------------------------------------------------------------------


def identity_mistake(name: str) -> str | None:
    """What is wrong with the name of an identity, as configuration has them."""
    if _IDENTITY.fullmatch(name) is None:
        return "must be the name of an identity: a to z, 0 to 9, _ and -, a letter first"
    return None


def authorization_mistakes(put: Mapping[str, str], added: Mapping[str, str]) -> Iterator[Mistake]:
    """What cannot be said beside an identity, which says it itself."""
    for member, headers in (("set", put), ("add", added)):
        for name in headers:
            if name.lower() == "authorization":
                where = f".transform.request.headers.{member}.{name}"
                yield where, "is what the route's identity says"


# --- paths and URLs ------------------------------------------------------------------------------


def path_mistake(path: str) -> str | None:
    """What is wrong with a path that requests are compared with, or that is put before theirs."""
    if not path.startswith("/"):
        return "must begin with a slash"
    if _VISIBLE.fullmatch(path) is None:
        return "must be visible ASCII; everything else, blanks too, is escaped as %20 is"
    if "?" in path or "#" in path:
        return "must have neither a query nor a fragment"
    if _HIDDEN_SLASH.search(path):
        return "must have no slash or backslash in an escape, and no backslash"
    if "//" in path:
        return "must have no empty segment: //"
    if normal_path(path.encode("ascii")) is None:
        return "must have no segment . or .., no %00, and two hexadecimal digits after each %"
    return None


def url_mistake(url: str) -> str | None:
    """What is wrong with an upstream's URL."""
    found = _URL.fullmatch(url)
    if found is None or _VISIBLE.fullmatch(url) is None:
        return "must be a URL such as https://api.example.com, with nothing unescaped in it"
    scheme, authority, path, query, fragment = found.groups()
    if scheme.lower() not in ("http", "https"):
        return "must begin with http:// or https://"
    if "@" in authority:
        return "must not have a user's name or password in it"
    if not authority or authority.startswith(":"):
        return "must name a host"
    if query is not None or fragment is not None:
        return "must have neither a query nor a fragment"
    try:
        origin, _ = split_url(url)
    except InvalidRequest as error:
        return f"cannot be asked: {error.message}"
    try:
        address = literal_address(origin.host)
    except ValueError:
        return "has an address in a spelling that is not everywhere understood alike"
    if address is None and (wrong := name_mistake(origin.host)) is not None:
        return wrong
    if path and (wrong := path_mistake(path)) is not None:
        return f"has a path that {wrong}"
    return None


def name_mistake(name: str) -> str | None:
    """What is wrong with a name that no resolver could find (RFC 1035, section 2.3.4).

    It may end with a dot, as names do that are whole, and have underscores, as many inside have.
    """
    labels = name.removesuffix(".").split(".")
    if not all(labels):
        return "has a host's name with an empty part: .."
    if any(len(label) > LONGEST_LABEL for label in labels):
        return f"has a host's name with a part of more than {LONGEST_LABEL} characters"
    if len(name.removesuffix(".")) > LONGEST_NAME:
        return f"has a host's name of more than {LONGEST_NAME} characters"
    return None


def origin_and_base(url: str) -> tuple[str, str]:
    """What two URLs have alike that are the same upstream; the URL is one."""
    origin, path = split_url(url)
    return str(origin), path.decode("ascii").rstrip("/")


def endpoint_mistake(endpoint: str) -> str | None:
    """What is wrong with the path, and perhaps query, that a health check asks for."""
    path = endpoint.partition("?")[0]
    if "#" in endpoint or _VISIBLE.fullmatch(endpoint) is None:
        return "must be visible ASCII without a fragment"
    return path_mistake(path)


# --- patterns ------------------------------------------------------------------------------------


def regex_mistake(text: str) -> str | None:
    """What is wrong with a pattern that requests' paths are to match from their beginning on."""
    try:
        pattern = Pattern(text)
    except PatternError as error:
        return str(error)
    if not pattern.can_match_a_path():
        return "matches no path: paths begin with a slash, and a match where they begin"
    return None


def rewriting_mistakes(text: str, replacement: str) -> Iterator[Mistake]:
    """What is wrong with a pattern and what takes the place of what it matches."""
    if _VISIBLE.fullmatch(replacement) is None:
        yield ".replacement", "must be visible ASCII; everything else is escaped as %20 is"
        return
    if "?" in replacement or "#" in replacement:
        yield ".replacement", "must have neither a query nor a fragment; the query stays as it is"
    if "\\" in replacement:
        yield ".replacement", "must have no backslash; groups are $1, ${1} or ${name}"
    try:
        pattern = Pattern(text)
    except PatternError as error:
        yield ".pattern", str(error)
        return
    try:
        Replacement(replacement, pattern)
    except PatternError as error:
        yield ".replacement", str(error)


# --- headers -------------------------------------------------------------------------------------


def header_mistakes(
    set_: Mapping[str, str], add: Mapping[str, str], remove: Sequence[str], *, of_answers: bool
) -> Iterator[Mistake]:
    """What is wrong with headers that are to be set, added and removed."""
    kept = SET_BY_US_IN_ANSWERS if of_answers else SET_BY_US
    seen: dict[str, str] = {}
    for member, headers in (("set", set_), ("add", add), ("remove", remove)):
        here: set[str] = set()
        for number, name in enumerate(headers):
            where = f".{member}[{number}]" if member == "remove" else f".{member}.{name}"
            lowered = name.lower()
            if (found := _name_mistake(name, kept, of_answers=of_answers)) is not None:
                yield where, found
            elif lowered in here:
                yield where, "is there already, perhaps in other letters"
            elif lowered in seen and member == "remove":
                yield where, f"is there already, in {seen[lowered]}"
            here.add(lowered)
            seen.setdefault(lowered, member)
    for member, headers in (("set", set_), ("add", add)):
        for name, value in headers.items():
            if len(value) > LONGEST_HEADER_VALUE or _HEADER_VALUE.fullmatch(value) is None:
                yield (
                    f".{member}.{name}",
                    f"must be at most {LONGEST_HEADER_VALUE} printable ASCII characters, with no"
                    " blanks round them",
                )


def _name_mistake(name: str, kept: frozenset[bytes], *, of_answers: bool) -> str | None:
    if len(name) > LONGEST_HEADER_NAME or _HEADER_NAME.fullmatch(name) is None:
        return "is no header's name"
    lowered = name.lower().encode("ascii")
    if lowered in kept or (not of_answers and lowered.startswith(b"x-forwarded-")):
        return "is not a route's to change"
    return None


# --- answers -----------------------------------------------------------------------------------


def repetition(values: Sequence[int]) -> str | None:
    """What is wrong with numbers that are there twice."""
    return "must have each once" if len(set(values)) < len(values) else None


def media_type_mistake(text: str) -> str | None:
    """What is wrong with a media type."""
    if _MEDIA_TYPE.fullmatch(text) is None:
        return "must be a media type, such as application/json"
    return None


def body_mistake(text: str) -> str | None:
    """What is wrong with the text of an answer."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "must be text; it has half a character in it"
    if size > LARGEST_FALLBACK_BYTES:
        return f"must have at most {LARGEST_FALLBACK_BYTES} bytes, not {size}"
    return None


def can_have_body(status: int) -> bool:
    """Whether an answer of that status may have a body."""
    return status not in _TAKES_NO_BODY
