"""Who gets in under ``/admin``."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.api.admin import WRONG_KEYS_AT_ONCE, AdminDoor, AdminGuard
from bulkhead_trio.api.messages import Headers, Request, Response
from bulkhead_trio.api.routes import answer
from bulkhead_trio.database.audit import Author

from .._world import ADMIN_KEY
from ._world import open_admin


async def show_author(request: Request, author: Author) -> Response:
    return Response.json({"who": author.who, "requestId": author.request_id})


def asked(
    key: str | None, *, client: str = "192.0.2.1", listener: str = "public", **headers: str
) -> Request:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if key is not None:
        fields.append((b"x-admin-key", key.encode()))
    return Request(
        "GET",
        "/admin/tenants",
        b"",
        Headers(fields),
        listener=listener,
        client=client,  # type: ignore[arg-type]
    )


def door(*, has_own_listener: bool = False) -> AdminDoor:
    # The surface that is public is the metrics' only.
    return AdminDoor(AdminGuard(ADMIN_KEY, is_public=True), has_own_listener=has_own_listener)


@pytest.mark.parametrize(
    ("key", "status"), [(None, 401), ("", 401), ("another", 403), (ADMIN_KEY, 200)]
)
@pytest.mark.parametrize("listener", ["public", "admin"])
async def test_door_asks_everybody_for_the_key(
    autojump_clock: MockClock, key: str | None, status: int, listener: str
) -> None:
    """In development too, and on the admin listener too."""
    found = await answer(door().around(show_author), asked(key, listener=listener))
    assert found.status == status


async def test_door_is_nowhere_else_where_there_is_a_listener_for_it(
    autojump_clock: MockClock,
) -> None:
    """404 on the public listener, whatever key is sent; the admin listener asks for it."""
    handler = door(has_own_listener=True).around(show_author)
    for key in (None, "another", ADMIN_KEY):
        assert (await answer(handler, asked(key))).status == 404
    assert (await answer(handler, asked(ADMIN_KEY, listener="admin"))).status == 200
    assert (await answer(handler, asked(None, listener="admin"))).status == 401


async def test_wrong_keys_are_limited_by_address(autojump_clock: MockClock) -> None:
    """After some, even the right one is refused from there; elsewhere nobody notices."""
    handler = door().around(show_author)
    for _ in range(WRONG_KEYS_AT_ONCE):
        assert (await answer(handler, asked("another"))).status == 403
    for key in ("another", ADMIN_KEY):
        refused = await answer(handler, asked(key))
        assert refused.status == 429
        assert dict(refused.headers)[b"retry-after"] == b"10"
    assert (await answer(handler, asked(ADMIN_KEY, client="192.0.2.2"))).status == 200
    await trio.sleep(10)
    assert (await answer(handler, asked(ADMIN_KEY))).status == 200


async def test_right_keys_and_missing_ones_are_not_counted(autojump_clock: MockClock) -> None:
    """Only what is wrong is a guess."""
    handler = door().around(show_author)
    for _ in range(3 * WRONG_KEYS_AT_ONCE):
        assert (await answer(handler, asked(ADMIN_KEY))).status == 200
        assert (await answer(handler, asked(None))).status == 401


async def test_wrong_keys_of_one_ipv6_network_count_together(autojump_clock: MockClock) -> None:
    """A customer has 2^64 addresses, but one network; a mapped IPv4 address is that address."""
    handler = door().around(show_author)
    for number in range(WRONG_KEYS_AT_ONCE):
        request = asked("another", client=f"2001:db8:0:7::{number:x}")
        assert (await answer(handler, request)).status == 403
    assert (await answer(handler, asked("another", client="2001:db8:0:7:9::1"))).status == 429
    assert (await answer(handler, asked("another", client="2001:db8:0:8::1"))).status == 403
    for _ in range(WRONG_KEYS_AT_ONCE):
        await answer(handler, asked("another", client="::ffff:192.0.2.9"))
    assert (await answer(handler, asked("another", client="192.0.2.9"))).status == 429


async def test_deadline_of_an_admin_request_is_kept(autojump_clock: MockClock) -> None:
    """The server's own, or the client's where that is shorter; 504 then."""

    async def never(request: Request, author: Author) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    handler = door().around(never)
    began = trio.current_time()
    assert (await answer(handler, asked(ADMIN_KEY, x_request_timeout="0.5"))).status == 504
    assert trio.current_time() - began == pytest.approx(0.5)
    assert (await answer(handler, asked(ADMIN_KEY, x_request_timeout="500"))).status == 504
    assert trio.current_time() - began == pytest.approx(10.5)
    assert (await answer(handler, asked(ADMIN_KEY, x_request_timeout="0"))).status == 400


async def test_every_admin_path_is_behind_the_door(module_database: str) -> None:
    """Without the key 401, with a wrong one 403, and with a listener of its own 404 elsewhere."""
    async with (
        open_admin(module_database) as admin,
        open_admin(module_database, has_own_listener=True) as apart,
    ):
        routes = [route for resource in admin.resources for route in resource.routes()]
        assert len(routes) == 14
        for route in routes:
            assert route.is_admin
            path = route.path.replace("{id}", "x").replace("{keyId}", "y")
            assert path.startswith("/admin/")
            assert (await admin.ask(route.method, path, key=None)).status == 401
            assert (await apart.ask(route.method, path)).status == 404
        assert (await admin.ask("GET", "/admin/tenants", key="another")).status == 403
        assert (await apart.ask("GET", "/admin/tenants", listener="admin")).status == 200
        assert (await apart.ask("GET", "/admin/tenants", key=None, listener="admin")).status == 401
