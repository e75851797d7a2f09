"""The API's description as one HTML page, made from the OpenAPI document alone.

No script, and nothing that would have to be loaded: the page works without a network, and its
Content-Security-Policy forbids the browser everything but the one style sheet that is in it.
"""

from __future__ import annotations

import base64
import hashlib
import http
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeAlias

import attrs
import jinja2
import msgspec
from markupsafe import Markup, escape

JSON: TypeAlias = Mapping[str, Any]

LONGEST_ENUMERATION = 8
"""More values than that are not listed in a table's cell."""

_TEMPLATES = files("bulkhead_trio.api") / "templates"


@attrs.frozen
class Page:
    """A page and what has to be sent with it.

    Attributes:
        html: UTF-8.
        policy: its Content-Security-Policy.
    """

    html: bytes
    policy: str


@attrs.frozen
class Member:
    """One line of a table: a parameter, a header or a member of a body."""

    name: str
    type: str
    description: str
    place: str = ""
    example: str = ""


@attrs.frozen
class Body:
    """What an answer may contain: its members as a table, and an example."""

    media_type: str
    members: tuple[Member, ...]
    example: str | None


@attrs.frozen
class Answer:
    """One status of one operation.

    Attributes:
        headers: besides those that every answer has.
        codes: its error codes; none for an answer that is no problem.
        is_shared: whether any other operation may answer the same.
    """

    status: str
    phrase: str
    description: str
    headers: tuple[str, ...]
    bodies: tuple[Body, ...]
    codes: tuple[str, ...]
    is_shared: bool


@attrs.frozen
class Operation:
    """One method of one path."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    key: Member | None
    parameters: tuple[Member, ...]
    bodies: tuple[Body, ...]
    samples: tuple[tuple[str, str], ...]
    answers: tuple[Answer, ...]


@attrs.frozen
class Group:
    """The operations that have a tag in common."""

    name: str
    description: str
    operations: tuple[Operation, ...]


@attrs.frozen
class Problem:
    """One error code."""

    code: str
    status: int
    title: str
    when: str
    has_retry_after: bool


def docs_page(document: JSON) -> Page:
    """The page that describes ``document``, an OpenAPI 3.1 document."""
    style = (_TEMPLATES / "docs.css").read_text(encoding="utf-8").strip()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["prose"] = _prose
    template = environment.from_string((_TEMPLATES / "docs.html.jinja").read_text(encoding="utf-8"))
    reader = _Reader(document)
    html = template.render(
        info=document["info"],
        address=document["servers"][-1]["url"],
        style=Markup(style),  # noqa: S704  ours, from the package
        groups=reader.groups(),
        problems=reader.problems(),
        problem_members=reader.members(document["components"]["schemas"]["Problem"]),
        request_headers=reader.common_parameters(),
        response_headers=reader.response_headers(),
    )
    return Page(html=html.encode(), policy=_policy(style))


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{digest}'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _prose(text: str) -> Markup:
    """Text with `code` between backticks; everything else in it is only text."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


class _Reader:
    """Reads what the page shows out of a document."""

    def __init__(self, document: JSON) -> None:
        self._document = document
        self._usual_headers = frozenset.intersection(
            *(
                frozenset(self._resolved(response)["headers"])
                for _, _, operation in self._operations()
                for response in operation["responses"].values()
            )
        )

    def _resolved(self, node: JSON) -> JSON:
        while "$ref" in node:
            target: Any = self._document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def _operations(self) -> Iterator[tuple[str, str, JSON]]:
        for path, item in self._document["paths"].items():
            for method, operation in item.items():
                if method != "parameters":
                    yield path, method, operation

    def groups(self) -> tuple[Group, ...]:
        """The operations by their tags, in the order of both."""
        operations = [
            (operation["tags"][0], self._operation(path, method, operation))
            for path, method, operation in self._operations()
        ]
        return tuple(
            Group(
                name=tag["name"],
                description=tag["description"],
                operations=tuple(shown for name, shown in operations if name == tag["name"]),
            )
            for tag in self._document["tags"]
        )

    def _operation(self, path: str, method: str, operation: JSON) -> Operation:
        return Operation(
            id=operation["operationId"],
            method=method.upper(),
            path=path,
            summary=operation["summary"],
            description=operation["description"],
            key=self._key(operation.get("security", ())),
            parameters=tuple(
                self._parameter(self._resolved(parameter))
                for parameter in operation.get("parameters", ())
            ),
            bodies=tuple(
                self._body(media_type, content)
                for media_type, content in operation.get("requestBody", {})
                .get("content", {})
                .items()
            ),
            samples=tuple(
                (sample["label"], sample["source"]) for sample in operation["x-codeSamples"]
            ),
            answers=tuple(
                self._answer(status, response)
                for status, response in sorted(operation["responses"].items())
            ),
        )

    def _key(self, security: Sequence[JSON]) -> Member | None:
        for requirement in security:
            for name in requirement:
                scheme = self._document["components"]["securitySchemes"][name]
                return Member(scheme["name"], "string", scheme["description"], scheme["in"])
        return None

    def _parameter(self, parameter: JSON) -> Member:
        return Member(
            name=parameter["name"],
            type=_type(parameter["schema"]),
            description=parameter["description"],
            place=parameter["in"],
            example=str(parameter.get("example", "")),
        )

    def _answer(self, status: str, response: JSON) -> Answer:
        resolved = self._resolved(response)
        bodies = []
        codes: list[str] = []
        for media_type, content in resolved["content"].items():
            if "examples" in content:
                codes += content["examples"]
            else:
                bodies.append(self._body(media_type, content))
        return Answer(
            status=status,
            phrase=http.HTTPStatus(int(status)).phrase,
            description=resolved["description"],
            headers=tuple(name for name in resolved["headers"] if name not in self._usual_headers),
            bodies=tuple(bodies),
            codes=tuple(codes),
            is_shared="$ref" in response,
        )

    def _body(self, media_type: str, content: JSON) -> Body:
        example = content.get("example")
        if not (example is None or isinstance(example, str)):
            example = msgspec.json.format(msgspec.json.encode(example), indent=2).decode()
        return Body(media_type, self.members(content["schema"]), example)

    def members(self, schema: JSON) -> tuple[Member, ...]:
        """All members of a schema, those of members included, by their paths."""
        return tuple(self._members(schema, ""))

    def _members(self, schema: JSON, path: str) -> Iterator[Member]:
        schema = self._resolved(schema)
        for name, inner in self._inner(schema, path):
            resolved = self._resolved(inner)
            yield Member(name, _type(resolved), resolved.get("description", ""))
            yield from self._members(resolved, name)

    def _inner(self, schema: JSON, path: str) -> Iterator[tuple[str, JSON]]:
        prefix = f"{path}." if path else ""
        for name, inner in schema.get("properties", {}).items():
            yield f"{prefix}{name}", inner
        if "additionalProperties" in schema:
            yield (
                f"{prefix}<{schema['x-additionalPropertiesName']}>",
                schema["additionalProperties"],
            )
        if "items" in schema:
            yield f"{path}[]", schema["items"]

    def problems(self) -> tuple[Problem, ...]:
        """Every error code, by status."""
        problems = [
            Problem(
                code=code,
                status=example["value"]["status"],
                title=example["value"]["title"],
                when=example["description"],
                has_retry_after="retryAfter" in example["value"],
            )
            for code, example in self._document["components"]["examples"].items()
        ]
        return tuple(sorted(problems, key=lambda problem: problem.status))

    def common_parameters(self) -> tuple[Member, ...]:
        """What every operation takes: the parameters of all path items, each once."""
        found = {
            parameter["name"]: self._parameter(parameter)
            for item in self._document["paths"].values()
            for parameter in map(self._resolved, item["parameters"])
        }
        return tuple(found.values())

    def response_headers(self) -> tuple[Member, ...]:
        """Every header that some answer carries."""
        return tuple(
            Member(
                name=name,
                type=_type(header["schema"]),
                description=header["description"],
                example=str(header.get("example", "")),
            )
            for name, header in self._document["components"]["headers"].items()
        )


def _type(schema: JSON) -> str:
    """A schema's type in a few words."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if len(schema.get("enum", ())) in range(1, LONGEST_ENUMERATION + 1):
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    named = schema.get("type", "any")
    words = " or ".join([named] if isinstance(named, str) else named)
    if "minimum" in schema and "maximum" in schema:
        words += f", {schema['minimum']} to {schema['maximum']}"
    if "default" in schema:
        words += f", default `{msgspec.json.encode(schema['default']).decode()}`"
    return words
