"""What tenants ask of the deliveries, over the real stores on a real PostgreSQL, in memory."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import attrs
import trio

from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits
from bulkhead_trio.api.quart_app import create_quart_app
from bulkhead_trio.api.routes import Resource
from bulkhead_trio.database import PoolSettings, create_pool
from bulkhead_trio.database.audit import Author
from bulkhead_trio.database.delivery_records import AttemptRecord
from bulkhead_trio.database.tenants import TenantDraft
from bulkhead_trio.database.work_records import Finished, Outcome
from bulkhead_trio.delivery.events import EventWriter
from bulkhead_trio.tenancy import KeyMaker, TenantDirectory
from bulkhead_trio.testing import Answer, ASGIClient

from .._deliveries import Stores, delivery_resources, make_door
from .._world import assert_as_described

PEPPER = b"pepper"
HOOK = {"url": "https://example.com/hooks", "eventTypes": ["order.*"]}
EVENT = {"type": "order.completed", "payload": {"orderId": "order-1"}}
MAIL = {"channel": "smtp", "to": "ada@example.com", "subject": "Hello", "body": "Ada,\nhello."}


@attrs.frozen
class Tenant:
    """Somebody who asks; every answer is checked to be as described."""

    world: World
    key: str
    id: UUID

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        return await self.world.ask(method, path, body, key=self.key, **headers)

    async def make_webhook(self, **members: object) -> dict[str, Any]:
        made = await self.ask("POST", "/api/webhooks", {**HOOK, **members})
        assert made.status == 201, made.body
        document: dict[str, Any] = made.json()
        return document

    async def send(self, **members: object) -> str:
        """An event that has been fanned out; its id."""
        made = await self.ask("POST", "/api/events", {**EVENT, **members})
        assert made.status == 202, made.body
        await self.world.fan_out()
        return str(made.json()["id"])

    async def items(self, path: str) -> list[dict[str, Any]]:
        """A list, which is one page."""
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer.body
        assert answer.json()["nextCursor"] is None
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


@attrs.frozen
class World:
    """The API, its stores, and what would work behind it."""

    resources: tuple[Resource, ...]
    stores: Stores
    keys: KeyMaker
    app: ASGIClient

    async def tenant(self, **members: Any) -> Tenant:
        key = self.keys.make()
        draft = TenantDraft(name="acme", tier="pro", **members)
        record, _ = await self.stores.tenants.create(draft, key.record, Author("tests"))
        return Tenant(self, key.text, UUID(record.id))

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        **headers: str,
    ) -> Answer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            fields["x-api-key"] = key
        raw = body if isinstance(body, bytes) else b""
        if body is not None and not isinstance(body, bytes):
            raw = json.dumps(body).encode()
        if raw:
            fields.setdefault("content-type", "application/json")
        with trio.fail_after(10):
            answer = await self.app.request(method, path, fields, raw)
        assert_as_described(f"{method} {self._template(path)}", answer)
        return answer

    async def fan_out(self) -> None:
        while (await self.stores.events.fan_out(100)).events:
            pass

    async def try_webhooks(self, outcome: Outcome, *, status: int | None = 500) -> int:
        """What is due is tried once, and ends so; how many that were."""
        return await self._try(self.stores.webhook_work, outcome, status)

    async def try_notifications(self, outcome: Outcome) -> int:
        return await self._try(self.stores.notification_work, outcome, None)

    async def _try(self, work: Any, outcome: Outcome, status: int | None) -> int:
        owner, done = uuid.uuid4(), 0
        while True:
            claimed = await work.claim(owner, limit=10, lease_seconds=60, parallel=20)
            if not claimed:
                return done
            results = [
                Finished(
                    item_id=each.item_id,
                    attempts_before=each.attempts,
                    attempt=AttemptRecord(
                        number=each.attempts + 1,
                        at=datetime.datetime.now(datetime.UTC),
                        status=status,
                        error=None if status else "it took too long",
                        duration_ms=12.5,
                        response="not today" if status else None,
                    ),
                    outcome=outcome,
                    retry_after_seconds=300.0 if outcome == "retry" else None,
                )
                for each in claimed
            ]
            done += await work.finish(owner, results)

    def _template(self, path: str) -> str:
        """The path of the route that ``path`` belongs to; the one with the fewest names in it."""
        pieces = path.partition("?")[0].split("/")
        found = {
            route.path
            for resource in self.resources
            for route in resource.routes()
            if len(each := route.path.split("/")) == len(pieces)
            and all(
                one == other or one[0:1] == "{" for one, other in zip(each, pieces, strict=True)
            )
        }
        return min(found, key=lambda template: template.count("{"))


@asynccontextmanager
async def open_world(
    conninfo: str,
    *,
    rate: float = 1000.0,
    burst: int = 1000,
    channels: Collection[str] = ("smtp", "http"),
) -> AsyncIterator[World]:
    pool = create_pool("deliveries", PoolSettings(conninfo, 4, 5.0))
    stores = Stores.on(pool)
    door, compartment = make_door(TenantDirectory(stores.tenants, PEPPER))
    writer = EventWriter(stores.events)
    resources = delivery_resources(stores, writer, door, rate=rate, burst=burst, channels=channels)
    gate = DrainGate()
    app: Any = create_quart_app(resources, gate=gate, max_body_bytes=1024 * 1024)
    client = ASGIClient(Edge(app, gate=gate, limits=RequestLimits(), listener="public"))
    async with trio.open_nursery() as nursery:
        for run in (pool.run, compartment.run, writer.run):
            await nursery.start(run)
        yield World(resources, stores, KeyMaker(PEPPER), client)
        nursery.cancel_scope.cancel()


def errors_of(answer: Answer) -> dict[str, str]:
    """What is wrong, by path."""
    assert (answer.status, answer.json()["code"]) == (400, "invalid_body"), answer.body
    return {each["path"]: each["message"] for each in answer.json()["errors"]}


def code_of(answer: Answer) -> tuple[int, str]:
    """The status, and the error's code."""
    return answer.status, answer.json()["code"]
