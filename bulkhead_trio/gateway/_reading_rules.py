"""Documents read into records with every mistake found, not only the first. Pure.

The records are msgspec structs: their types and bounds say what is right, and how it is told what
is wrong. What a type cannot say is said by a `Check` beside it, or by a struct's own ``mistakes``.
"""

from __future__ import annotations

import difflib
import functools
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin

import attrs
import msgspec
from msgspec import inspect

Mistake: TypeAlias = tuple[str, str]
"""Where, and what is wrong there."""

Reader: TypeAlias = Callable[[object, str, list[Mistake]], Any]
"""Reads a value at a path; gives `WRONG`, with a mistake added, for what it cannot be."""


MOST_STRANGERS: Final = 20
"""Unknown members that are told of one object: finding what was meant takes its time."""


class _Wrong:
    """The type of `WRONG`."""


WRONG: Final = _Wrong()
"""In place of a value that is none."""


@attrs.frozen
class Check:
    """What more a value must be; beside its type, in ``Annotated``.

    Attributes:
        mistakes: all that is wrong with a value of the right type; the path is what follows that
            of the value, ``""`` for the value itself.
    """

    mistakes: Callable[[Any], Iterable[Mistake]]


def says(mistake: Callable[[Any], str | None]) -> Check:
    """The check of a value with which one thing at a time can be wrong."""

    def mistakes(value: Any) -> Iterable[Mistake]:
        found = mistake(value)
        return () if found is None else (("", found),)

    return Check(mistakes)


@functools.cache
def reader_of(kind: Any) -> Reader:
    """What reads values of a type: a struct, ``tuple[T, ...]``, ``dict[str, T]``, or a plain one.

    An optional member may be null as well as absent.
    """
    bare = kind
    checks: tuple[Check, ...] = ()
    if get_origin(kind) is Annotated:
        bare = get_args(kind)[0]
        checks = tuple(each for each in get_args(kind)[1:] if isinstance(each, Check))
    arguments = get_args(bare)
    if get_origin(bare) in (Union, types.UnionType) and type(None) in arguments:
        read = _optional(bare)
    elif isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        read = _struct_reader(bare)
    elif get_origin(bare) is tuple:
        read = _list_reader(kind, reader_of(arguments[0]))
    elif get_origin(bare) is dict:
        read = _object_reader(kind, reader_of(arguments[1]))
    else:
        read = _plain_reader(kind)
    return _checked(read, checks) if checks else read


def _checked(read: Reader, checks: tuple[Check, ...]) -> Reader:
    def read_and_check(value: object, path: str, mistakes: list[Mistake]) -> Any:
        result = read(value, path, mistakes)
        if result is WRONG:
            return WRONG
        found = [mistake for check in checks for mistake in check.mistakes(result)]
        mistakes += [(path + where, what) for where, what in found]
        return WRONG if found else result

    return read_and_check


def _optional(kind: Any) -> Reader:
    inner = reader_of(next(each for each in get_args(kind) if each is not type(None)))
    return lambda value, path, mistakes: None if value is None else inner(value, path, mistakes)


def _plain_reader(kind: Any) -> Reader:
    wanted = wording_of(kind)

    def read(value: object, path: str, mistakes: list[Mistake]) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            mistakes.append((path, f"must be {wanted}"))
            return WRONG

    return read


def _list_reader(kind: Any, read_item: Reader) -> Reader:
    info: Any = inspect.type_info(kind)
    least, most = info.min_length or 0, info.max_length
    wanted = f"a list of {least} to {most}" if most is not None else "a list"

    def read(value: object, path: str, mistakes: list[Mistake]) -> Any:
        if not isinstance(value, list | tuple):
            mistakes.append((path, f"must be {wanted}"))
            return WRONG
        if len(value) < least or (most is not None and len(value) > most):
            mistakes.append((path, f"must be {wanted}, not of {len(value)}"))
            return WRONG
        items = [read_item(each, f"{path}[{n}]", mistakes) for n, each in enumerate(value)]
        return WRONG if WRONG in items else tuple(items)

    return read


def _object_reader(kind: Any, read_member: Reader) -> Reader:
    most = getattr(inspect.type_info(kind), "max_length", None)

    def read(value: object, path: str, mistakes: list[Mistake]) -> Any:
        if not isinstance(value, Mapping):
            mistakes.append((path, "must be an object"))
            return WRONG
        if most is not None and len(value) > most:
            mistakes.append((path, f"must have at most {most} members"))
            return WRONG
        members = {
            name: read_member(each, f"{path}.{name}", mistakes) for name, each in value.items()
        }
        return WRONG if WRONG in members.values() else members

    return read


def _struct_reader(kind: type[msgspec.Struct]) -> Reader:
    fields = {
        field.encode_name: (field.name, reader_of(field.type), field)
        for field in msgspec.structs.fields(kind)
    }
    own_mistakes = getattr(kind, "mistakes", None)

    def read(value: object, path: str, mistakes: list[Mistake]) -> Any:
        if not isinstance(value, Mapping):
            mistakes.append((path, "must be an object"))
            return WRONG
        strangers = [name for name in value if name not in fields]
        mistakes += [
            (f"{path}.{name}", _unknown(name, fields)) for name in strangers[:MOST_STRANGERS]
        ]
        members = {}
        for name, (attribute, read_member, field) in fields.items():
            if name in value:
                members[attribute] = read_member(value[name], f"{path}.{name}", mistakes)
            elif field.required:
                wanted = wording_of(field.type)
                mistakes.append((f"{path}.{name}", f"is missing; it must be {wanted}"))
                members[attribute] = WRONG
        if WRONG in members.values():
            return WRONG
        made = kind(**members)
        if own_mistakes is not None:
            found = list(own_mistakes(made))
            mistakes += [(path + where, what) for where, what in found]
            return WRONG if found else made
        return made

    return read


def _unknown(name: object, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"is not known here; is {close[0]} meant?" if close else "is not known here"


def wording_of(kind: Any) -> str:
    """What a value of a type is, in words, as after "must be"."""
    if get_origin(kind) is Literal or get_origin(_bare(kind)) is Literal:
        return "one of " + ", ".join(get_args(_bare(kind)))
    info: Any = inspect.type_info(kind)
    if isinstance(info, inspect.Metadata):
        described = (info.extra_json_schema or {}).get("description")
        if described is not None:
            return str(described)
        info = info.type
    match info:
        case inspect.IntType():
            return f"a whole number from {info.ge} to {info.le}"
        case inspect.FloatType():
            least = f"from {info.ge}" if info.gt is None else f"above {info.gt}"
            return f"a number {least} to {info.le}"
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            most = f" of at most {info.max_length} characters" if info.max_length else ""
            return f"text{most}"
        case inspect.VarTupleType():
            return "a list" if info.max_length is None else _list_wording(info)
        case _:
            return "an object"


def _list_wording(info: Any) -> str:
    return f"a list of {info.min_length or 0} to {info.max_length}"


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
