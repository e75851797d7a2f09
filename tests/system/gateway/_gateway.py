"""The gateway as its operators and its callers see it: servers, tenants, routes, requests."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from .._client import ANSWER_SECONDS, Address, Answer, Headers, ask
from .._server import Server, running_server, wait_until_answered

ADMIN_KEY = "admin-key-of-the-tests"
SETTINGS = {
    "ADMIN_API_KEY": ADMIN_KEY,
    "WORKERS": "1",
    "LOG_FORMAT": "json",
    "SHUTDOWN_GRACE_SECONDS": "3",
    # The upstreams of a test are the subject, not how long a tier lets a request live.
    "BULKHEAD_TIERS__ENTERPRISE__TIMEOUT": "60",
}
SEEN_SECONDS = 5.0
"""A change of a tenant or a route is seen by every instance within this time."""

_numbers = itertools.count(1)


@attrs.frozen
class Tenant:
    """A tenant that a test made, with its key."""

    id: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """What its requests carry."""
        return {"X-API-Key": self.key}


SEEN_STATUS = 218
"""Of no meaning to anybody else."""


@attrs.frozen
class Gateway:
    """One or more instances on one database; the first is asked where it does not matter."""

    servers: tuple[Server, ...]
    made: list[str] = attrs.field(factory=list)

    @property
    def addresses(self) -> list[Address]:
        """Where they listen."""
        return [server.address for server in self.servers]

    # --- for operators ---------------------------------------------------------------------------

    async def admin(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        instance: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request to the admin API."""
        body = None if document is None else json.dumps(document).encode()
        fields = {"X-Admin-Key": ADMIN_KEY, **(headers or {})}
        if body is not None:
            fields["Content-Type"] = "application/json"
        return await ask(
            self.servers[instance].address, path, method=method, headers=fields, body=body
        )

    async def tenant(self, **members: Any) -> Tenant:
        """A new tenant, of the tier ``enterprise`` unless told otherwise."""
        document = {"name": f"tenant {next(_numbers)}", "tier": "enterprise", **members}
        answer = await self.admin("POST", "/admin/tenants", document)
        assert answer.status == 201, str(answer)
        made = answer.json()
        self.made.append(made["id"])
        return Tenant(made["id"], made["apiKey"])

    async def delete_tenants(self) -> None:
        """Those that were made, and their routes: nothing of them is checked any more."""
        while self.made:
            answer = await self.admin("DELETE", f"/admin/tenants/{self.made.pop()}")
            assert answer.status in (204, 404), str(answer)

    async def change(self, path: str, changes: Any) -> None:
        """``PATCH`` what is there now."""
        tag = (await self.admin("GET", path)).header("etag")
        assert tag is not None
        answer = await self.admin("PATCH", path, changes, headers={"If-Match": tag})
        assert answer.status == 200, str(answer)

    async def route(
        self,
        tenant: Tenant,
        *upstreams: str | Mapping[str, Any],
        path: str = "/",
        until_seen: bool = True,
        **members: Any,
    ) -> str:
        """A new route, seen by all instances; its id. Upstreams are URLs, or as in the contract."""
        document = {
            "tenantId": tenant.id,
            "method": "*",
            "path": path,
            "pathType": "prefix",
            "upstreams": [{"url": u} if isinstance(u, str) else dict(u) for u in upstreams],
            **members,
        }
        answer = await self.admin("POST", "/admin/routes", document)
        assert answer.status == 201, str(answer)
        if until_seen:
            await self.settle()
        return str(answer.json()["id"])

    async def settle(self) -> None:
        """Until every instance has seen all changes of routes up to now.

        By a route of another tenant, changed last: instances read changes in their order, and no
        route of the test gets a request that the test has not sent.
        """
        last = await self.tenant()
        # Discard, which nobody serves. A free port might be another test's upstream by now.
        await self.route(
            last, "http://127.0.0.1:9", until_seen=False,
            resilience={"fallback": {"statusCode": SEEN_STATUS, "body": ""}},
        )  # fmt: skip
        for address in self.addresses:

            async def is_seen(address: Address = address) -> bool:
                answer = await ask(address, "/settled", headers=last.headers)
                return answer.status == SEEN_STATUS

            await wait_until_answered(is_seen, f"settled at {address}", timeout=SEEN_SECONDS)

    # --- for callers -----------------------------------------------------------------------------

    async def ask(
        self,
        tenant: Tenant,
        target: str,
        *,
        method: str = "GET",
        headers: Headers = (),
        body: bytes | None = None,
        timeout: float = ANSWER_SECONDS,
        instance: int = 0,
    ) -> Answer:
        """One request of a tenant, on a connection of its own."""
        extra = list(headers.items() if isinstance(headers, Mapping) else headers)
        return await ask(
            self.servers[instance].address,
            target,
            method=method,
            headers=[*tenant.headers.items(), *extra],
            body=body,
            timeout=timeout,
        )

    async def statuses(self, tenant: Tenant, target: str, count: int) -> list[int]:
        """What so many requests get, one after the other."""
        return [(await self.ask(tenant, target)).status for _ in range(count)]

    async def at_once(self, tenant: Tenant, target: str, count: int) -> list[Answer]:
        """What so many requests get at the same time, shared out among the instances."""
        answers: list[Answer] = []

        async def one(instance: int) -> None:
            answers.append(await self.ask(tenant, target, instance=instance))

        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(one, number % len(self.servers))
        return answers


@contextmanager
def running_gateway(
    count: int,
    data_dirs: Sequence[Path],
    *,
    database: str,
    redis_url: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """``count`` instances, each with a data directory of its own; stopped on the way out."""
    settings = {**SETTINGS, **(variables or {})}
    # What keys are digested with has to be one for all.
    settings["SECRET_KEY"] = "b" * 64
    if redis_url is not None:
        settings["REDIS_URL"] = redis_url
    with ExitStack() as stack:
        yield Gateway(
            tuple(
                stack.enter_context(
                    running_server(settings, data_dir=data_dirs[number], database=database)
                )
                for number in range(count)
            )
        )
