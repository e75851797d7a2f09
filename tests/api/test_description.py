"""``/openapi.json`` and ``/docs``: that what they say is what is really answered."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from bulkhead_trio.api._problem import KINDS
from bulkhead_trio.api.admin import AdminGuard
from bulkhead_trio.api.description import DescriptionResource
from bulkhead_trio.api.messages import Headers, Request
from bulkhead_trio.testing import Answer, ASGIClient

from ._world import (
    ADMIN_KEY,
    DOCUMENT,
    PATHS,
    TIERS,
    assert_as_described,
    assert_is,
    codes_of,
    described,
    make_world,
    operation,
    running,
)

GUARDED = ("/metrics/bulkheads", "/metrics", "/openapi.json", "/docs")


@pytest.mark.parametrize("path", PATHS)
async def test_answer_is_what_the_document_says(autojump_clock: object, path: str) -> None:
    """A good answer's type, members and headers are the described ones, none missing or extra."""
    async with running(make_world()) as client:
        for tier in TIERS:
            answer = await client.get(path, {"X-Tenant-Tier": tier})
            assert answer.status == 200
            assert answer.body
            assert_as_described(path, answer)


async def test_quota_headers_are_sent_for_tiers_with_a_quota(autojump_clock: object) -> None:
    """All of the described ones, or for a tier without a limit none."""
    named = {name.lower() for name in described("/api/data", 200)["headers"]} - {"x-request-id"}
    async with running(make_world()) as client:
        limited = await client.get("/api/data", {"X-Tenant-Tier": "free"})
        unlimited = await client.get("/api/data", {"X-Tenant-Tier": "enterprise"})
    assert named
    assert named <= limited.headers.keys()
    assert not named & unlimited.headers.keys()


@pytest.mark.parametrize("path", PATHS)
async def test_samples_can_be_run(autojump_clock: object, path: str) -> None:
    """Every line to copy asks the path that it is a sample of, and is answered."""
    async with running(make_world()) as client:
        for sample in operation(path)["x-codeSamples"]:
            program, show_head, address, *options = shlex.split(sample["source"])
            assert (program, show_head) == ("curl", "-i")
            target = urlsplit(address)
            assert f"{target.scheme}://{target.netloc}" == DOCUMENT["servers"][-1]["url"]
            assert target.path == path
            assert options[::2] == ["-H"] * (len(options) // 2)
            headers = dict(option.split(": ") for option in options[1::2])
            answer = await client.get(address.removeprefix("http://127.0.0.1:8080"), headers)
            assert answer.status == (503 if "force_error" in target.query else 200)
            assert_as_described(path, answer)


REFUSALS = (
    ("/api/data", {}, "tenant_tier_missing"),
    ("/api/data", {"X-Tenant-Tier": "gold"}, "tenant_tier_invalid"),
    ("/api/data?limit=0", {"X-Tenant-Tier": "free"}, "bad_request"),
    ("/api/data?limit=101", {"X-Tenant-Tier": "free"}, "bad_request"),
    ("/api/data", {"X-Tenant-Tier": "free", "X-Request-Timeout": "0"}, "invalid_header"),
    ("/api/data", {"X-API-Key": "unknown"}, "api_key_invalid"),
    ("/api/data?force_error=true", {"X-Tenant-Tier": "free"}, "database_unavailable"),
    *((f"{path}?{'q' * 9000}", {}, "uri_too_long") for path in PATHS),
    *((path, {"X-Large": "x" * 17000}, "headers_too_large") for path in PATHS),
    *((path, {"Content-Length": "9999999"}, "body_too_large") for path in PATHS),
)


@pytest.mark.parametrize(("target", "headers", "code"), REFUSALS)
async def test_refusal_is_what_the_document_says(
    autojump_clock: object, target: str, headers: dict[str, str], code: str
) -> None:
    """An error's status, code, members and headers are the described ones."""
    async with running(make_world()) as client:
        answer = await client.get(target, headers)
    assert answer.json()["code"] == code
    assert_as_described(target.partition("?")[0], answer)


async def test_refusals_of_a_busy_tier_are_what_the_document_says(autojump_clock: object) -> None:
    """Quota, deadline, queue and breaker each refuse with what is described, headers included."""
    world = make_world(rate_limit=5, query_seconds=30)
    answers: list[Answer] = []

    async def ask(client: ASGIClient, **more: str) -> None:
        answers.append(await client.get("/api/data", {"X-Tenant-Tier": "free", **more}))

    async with running(world) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask, client)
                await wait_all_tasks_blocked()
        await ask(client)
        await ask(client)
        await ask(client)
    codes = [answer.json()["code"] for answer in answers]
    assert codes == [
        "bulkhead_full", "deadline_exceeded", "deadline_exceeded", "deadline_exceeded",
        "circuit_open", "rate_limited",
    ]  # fmt: skip
    for answer in answers:
        assert_as_described("/api/data", answer)
        assert "ratelimit" in answer.headers


@pytest.mark.parametrize("path", PATHS)
async def test_draining_is_described_where_it_is_answered(
    autojump_clock: object, path: str
) -> None:
    """Exactly the operations that are refused while draining say so."""
    world = make_world()
    async with running(world) as client:
        world.gate.close()
        answer = await client.get(path, {"X-Tenant-Tier": "free"})
    refused = answer.status == 503 and answer.json().get("code") == "draining"
    assert refused == ("draining" in codes_of(path))
    assert_as_described(path, answer)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/api/date", "not_found"), ("POST", "/api/data", "method_not_allowed")],
)
async def test_request_for_no_operation_is_answered_as_described(
    autojump_clock: object, method: str, path: str, code: str
) -> None:
    """The two responses that belong to no operation are described too."""
    async with running(make_world()) as client:
        answer = await client.request(method, path)
    assert answer.json()["code"] == code
    assert answer.status == KINDS[code].status
    assert_is(DOCUMENT["components"]["responses"][code], answer)


async def test_readiness_of_a_server_without_its_database_is_described(
    autojump_clock: object,
) -> None:
    """The 503 of ``/ready`` is no problem document, and is described as what it is."""
    world = make_world()
    world.database.is_away = True
    async with running(world) as client:
        answer = await client.get("/ready")
    assert answer.status == 503
    assert answer.json()["status"] == "not_ready"
    assert_as_described("/ready", answer)


@pytest.mark.parametrize("path", GUARDED)
async def test_keys_are_asked_for_where_the_document_says(
    autojump_clock: object, path: str
) -> None:
    """Without the public surface: no key, a wrong one and the right one, all as described."""
    async with running(make_world(is_public=False)) as client:
        missing = await client.get(path)
        wrong = await client.get(path, {"X-Admin-Key": "another"})
        right = await client.get(path, {"X-Admin-Key": ADMIN_KEY})
    assert (missing.status, wrong.status, right.status) == (401, 403, 200)
    for answer in (missing, wrong, right):
        assert_as_described(path, answer)
    assert operation(path)["security"] == [{}, {"adminKey": []}]


async def test_key_of_a_tenant_is_asked_for_where_the_header_is_not_trusted(
    autojump_clock: object,
) -> None:
    """The 401 of ``/api/data`` is as described."""
    async with running(make_world(is_public=False)) as client:
        answer = await client.get("/api/data", {"X-Tenant-Tier": "free"})
    assert answer.status == 401
    assert_as_described("/api/data", answer)


async def test_description_needs_no_key_on_the_admin_listener(autojump_clock: object) -> None:
    """Whoever reaches that listener may look."""
    client = make_world(is_public=False).client("admin")
    for path in ("/openapi.json", "/docs"):
        assert (await client.get(path)).status == 200


async def test_description_is_made_once(autojump_clock: object) -> None:
    """Every request gets the same bytes; nothing is rendered again."""
    async with running(make_world()) as client:
        assert (await client.get("/openapi.json")).body == msgspec.json.encode(DOCUMENT)
    resource = DescriptionResource(
        version="1.2.3", tiers=TIERS, guard=AdminGuard(ADMIN_KEY, is_public=True)
    )
    request = Request("GET", "/", b"", Headers([]))
    for route in resource.routes():
        assert (await route.handler(request)) is (await route.handler(request))
