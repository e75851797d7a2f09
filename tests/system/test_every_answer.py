"""What the contract's section 1 promises for every response."""

from __future__ import annotations

import json

import pytest

from ._client import Answer, ask, ask_data
from ._problems import assert_decent, assert_problem, assert_request_id
from ._server import Server, wait_until
from .conftest import StartServer

OUR_PATHS = (
    "/health",
    "/ready",
    "/api/data",
    "/metrics",
    "/metrics/bulkheads",
    "/openapi.json",
    "/docs",
)
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module", params=["engine", "hypercorn"])
def server(start_server: StartServer, request: pytest.FixtureRequest) -> Server:
    return start_server(
        {
            "HTTP": request.param,
            "BULKHEAD_TIERS__FREE__RATE_LIMIT": "",
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "json",
        }
    )


async def ask_each_kind(server: Server, headers: dict[str, str]) -> list[Answer]:
    """A good answer, a caller's mistake, a wrong method, unknown paths of ours and a tenant's."""
    return [
        await ask(server.address, "/health", headers=headers),
        await ask_data(server.address, headers=headers),
        await ask(server.address, "/api/data", headers=headers),
        await ask(server.address, "/health", method="DELETE", headers=headers),
        await ask(server.address, "/admin/nowhere", headers=headers),
        await ask(server.address, "/nowhere", headers=headers),
    ]


@pytest.mark.parametrize("given", ["a", "0", "x" * 128, "!~{}|\"'<>", "550e8400-e29b-41d4-a716"])
async def test_request_id_of_the_caller_is_echoed(server: Server, given: str) -> None:
    """1 to 128 visible ASCII characters come back unchanged, on good and bad answers."""
    for answer in await ask_each_kind(server, {"X-Request-Id": given}):
        assert answer.header("x-request-id") == given, str(answer)


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "tab\tbed", "\xfcber", "x" * 7000])
async def test_request_id_that_will_not_do_is_replaced(server: Server, given: str) -> None:
    """Anything else is replaced by a new id, not repeated and not refused."""
    answers = await ask_each_kind(server, {"X-Request-Id": given})
    assert answers[0].status == 200
    for answer in answers:
        assert assert_request_id(answer) != given


async def test_request_id_given_twice_is_one_in_the_answer(server: Server) -> None:
    """Two ids are no id of 1 to 128 visible characters; the answer has exactly one."""
    headers = [("X-Request-Id", "first"), ("X-Request-Id", "second")]
    assert_request_id(await ask(server.address, "/health", headers=headers))


async def test_request_id_is_new_for_each_request(server: Server) -> None:
    """Ids that the server makes are not repeated."""
    made = [assert_request_id(await ask(server.address, "/health")) for _ in range(20)]
    assert len(set(made)) == len(made)


async def test_request_id_is_in_the_log(server: Server) -> None:
    """What a request caused in the log can be found by its id."""
    await ask_data(
        server.address, "pro", "?force_error=true", headers={"X-Request-Id": "find-me-7"}
    )
    await wait_until(lambda: '"find-me-7"' in server.output, "the line of that request")


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE_ID}-00f067aa0ba902b7-01",
        "",
        "00-zz-00-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"ff-{TRACE_ID}-00f067aa0ba902b7-01",
        "\xff" * 60,
        "x" * 5000,
    ],
)
async def test_traceparent_valid_or_not_disturbs_nobody(server: Server, traceparent: str) -> None:
    """A trace context is carried on when it is one; a broken one is no reason to refuse."""
    for answer in await ask_each_kind(server, {"traceparent": traceparent}):
        assert_decent(answer)
        carried = answer.header("traceparent")
        if carried is not None and TRACE_ID in traceparent and traceparent.startswith("00"):
            assert TRACE_ID in carried
    assert (await ask_data(server.address, headers={"traceparent": traceparent})).status == 200


@pytest.mark.parametrize("path", OUR_PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "FOO", "PROPFIND"])
async def test_method_not_allowed_says_which_are(server: Server, path: str, method: str) -> None:
    """A path of ours with a method that it has not: 405 with Allow."""
    answer = await ask(server.address, path, method=method, headers={"X-Tenant-Tier": "free"})
    assert_problem(answer, 405, "method_not_allowed")
    allowed = {word.strip() for word in (answer.header("allow") or "").split(",")}
    assert "GET" in allowed
    assert method not in allowed


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "FOO"])
@pytest.mark.parametrize(
    "path", ["/", "/nope", "/api", "/api/", "/metrics/nope", "/healthz", "/favicon.ico"]
)
async def test_path_that_is_none_of_ours_is_a_tenants(
    server: Server, path: str, method: str
) -> None:
    """Whatever the method, it asks for a key first, and takes no wrong one."""
    answer = await ask(server.address, path, method=method)
    assert_problem(answer, 401, "api_key_missing")
    assert "X-API-Key" in (answer.header("www-authenticate") or "")
    headers = {"X-API-Key": "bh_0123456789abcdef01234567_" + "A" * 43}
    answer = await ask(server.address, path, method=method, headers=headers)
    assert_problem(answer, 403, "api_key_invalid")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "FOO"])
@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/nope", "/admin/tenants/", "//x"])
async def test_path_unknown_is_not_found(server: Server, path: str, method: str) -> None:
    """Paths that are nobody's are 404, whatever the method."""
    assert_problem(await ask(server.address, path, method=method), 404, "not_found")


@pytest.mark.parametrize("path", OUR_PATHS)
async def test_head_is_get_without_a_body(server: Server, path: str) -> None:
    """HEAD answers as GET does, and sends no body."""
    headers = {"X-Tenant-Tier": "free"}
    answer = await ask(server.address, path, method="HEAD", headers=headers)
    assert answer.status == 200
    assert answer.body == b""


async def test_head_of_an_error_has_no_body(server: Server) -> None:
    """The rule for HEAD holds for refusals too."""
    for path, status in (("/admin/nowhere", 404), ("/nowhere", 401)):
        answer = await ask(server.address, path, method="HEAD")
        assert answer.status == status
        assert answer.body == b""


@pytest.mark.parametrize("value", ["0.5", "5", "5.0", "05.250", "10", "3600", "86400000"])
async def test_request_timeout_that_is_long_enough_changes_nothing(
    server: Server, value: str
) -> None:
    """Any decimal number of seconds above zero is accepted; the server's own limit still holds."""
    answer = await ask_data(server.address, headers={"X-Request-Timeout": value})
    assert answer.status == 200, str(answer)


@pytest.mark.parametrize(
    "value",
    [
        "0", "0.0", "-0", "-1", "-0.001", "NaN", "nan", "inf", "-inf", "Infinity", "", "abc", "1s",
        "1,5", "1 2", "0x10", "1_0", "\xb2", "\xff", "x" * 5000, "1;2", "--1", ".", "1.2.3",
    ],
)  # fmt: skip
async def test_request_timeout_that_is_none_is_refused(server: Server, value: str) -> None:
    """What is no number of seconds above zero is the caller's mistake."""
    answer = await ask_data(server.address, headers={"X-Request-Timeout": value})
    assert_problem(answer, 400, "invalid_header")


@pytest.mark.parametrize("value", ["1e3", "99999999999", "9" * 400, "1." + "0" * 400])
async def test_request_timeout_at_the_edge_of_a_number_is_no_accident(
    server: Server, value: str
) -> None:
    """An exponent or hundreds of digits: taken as a number or refused."""
    answer = await ask_data(server.address, headers={"X-Request-Timeout": value})
    assert_decent(answer)
    assert answer.status in {200, 400}


async def test_request_timeout_given_twice_is_refused(server: Server) -> None:
    """Two deadlines: neither is chosen for the caller."""
    headers = [("X-Request-Timeout", "5"), ("X-Request-Timeout", "1")]
    answer = await ask_data(server.address, headers=headers)
    assert_problem(answer, 400, "invalid_header")


@pytest.mark.parametrize("value", ["0.000001", "0.0001"])
async def test_request_timeout_that_has_passed_is_an_answer(server: Server, value: str) -> None:
    """A deadline that cannot be met is refused or has passed; either is said, at once."""
    answer = await ask_data(server.address, headers={"X-Request-Timeout": value}, timeout=3)
    members = assert_problem(answer)
    assert members["code"] in {"deadline_exceeded", "deadline_unreachable", "queue_timeout"}


async def test_request_timeout_of_callers_never_opens_the_breaker(server: Server) -> None:
    """A caller in a hurry is no failure of the database: the tier goes on for everyone else."""
    for _ in range(12):
        await ask_data(server.address, "pro", headers={"X-Request-Timeout": "0.0001"})
    answer = await ask_data(server.address, "pro")
    assert answer.status == 200, str(answer)


async def test_log_lines_are_json_when_asked_for(server: Server) -> None:
    """Machines read the log: with LOG_FORMAT=json each line that begins as an object is one."""
    lines = [line for line in server.output.splitlines() if line.startswith("{")]
    assert lines, server.tail()
    for line in lines:
        assert isinstance(json.loads(line), dict)
    assert "Traceback" not in server.output
