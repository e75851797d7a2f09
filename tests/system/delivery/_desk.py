"""What a tenant does: subscribes, sends, looks up. Over HTTP, as the contract says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import attrs

from .._client import Answer, ask
from .._server import wait_until_answered
from ..gateway._gateway import Gateway, Tenant

DELIVERED_SECONDS = 10.0
"""For a delivery at once, on a machine that is busy."""


@attrs.frozen
class Webhook:
    """A subscription as it was answered, the secret included."""

    id: str
    secret: str
    document: dict[str, Any]


@attrs.frozen
class Desk:
    """One tenant's view of a server; of the first instance unless told otherwise."""

    gateway: Gateway
    tenant: Tenant

    async def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        instance: int = 0,
        timeout: float = 10.0,
    ) -> Answer:
        """One request; a ``document`` is sent as JSON."""
        fields = {**self.tenant.headers, **(headers or {})}
        body = None
        if document is not None:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            fields.setdefault("Content-Type", "application/json")
        return await ask(
            self.gateway.servers[instance].address,
            path,
            method=method,
            headers=fields,
            body=body,
            timeout=timeout,
        )

    async def get(self, path: str, **query: str | int) -> Any:
        """What is there, as JSON; 200 is expected."""
        target = f"{path}?{urlencode(query)}" if query else path
        answer = await self.call("GET", target)
        assert answer.status == 200, str(answer)
        return answer.json()

    async def items(self, path: str, **query: str | int) -> AsyncIterator[dict[str, Any]]:
        """All of a list, page by page."""
        while True:
            page = await self.get(path, **query)
            for item in page["items"]:
                yield item
            if page["nextCursor"] is None:
                return
            query["cursor"] = page["nextCursor"]

    async def all(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """All of a list at once."""
        return [item async for item in self.items(path, **query)]

    # --- webhooks --------------------------------------------------------------------------------

    async def subscribe(self, url: str, *types: str, **members: Any) -> Webhook:
        """A new webhook for these types; all types without one."""
        document = {"url": url, "eventTypes": list(types or ("*",)), **members}
        answer = await self.call("POST", "/api/webhooks", document)
        assert answer.status == 201, str(answer)
        made = answer.json()
        return Webhook(made["id"], made["secret"], made)

    async def webhook(self, webhook: Webhook) -> dict[str, Any]:
        """As it is now."""
        found: dict[str, Any] = await self.get(f"/api/webhooks/{webhook.id}")
        return found

    async def rotate(self, webhook: Webhook) -> str:
        """Its new secret."""
        answer = await self.call("POST", f"/api/webhooks/{webhook.id}/secret")
        assert answer.status in (200, 201), str(answer)
        return str(answer.json()["secret"])

    # --- events and deliveries -------------------------------------------------------------------

    async def send(
        self, kind: str = "order.completed", payload: Any = None, *, key: str | None = None
    ) -> str:
        """An event; its id."""
        headers = {} if key is None else {"Idempotency-Key": key}
        document = {"type": kind, "payload": {} if payload is None else payload}
        answer = await self.call("POST", "/api/events", document, headers=headers)
        assert answer.status == 202, str(answer)
        return str(answer.json()["id"])

    async def deliveries(self, webhook: Webhook, **query: str | int) -> list[dict[str, Any]]:
        """All of a webhook's deliveries."""
        return await self.all("/api/deliveries", webhookId=webhook.id, **query)

    async def delivery_of(
        self, webhook: Webhook, state: str, *, timeout: float = DELIVERED_SECONDS
    ) -> dict[str, Any]:
        """The webhook's only delivery with its attempts, once it is in this state."""
        found: list[dict[str, Any]] = []

        async def is_there() -> bool:
            found[:] = await self.deliveries(webhook)
            return [each["state"] for each in found] == [state]

        try:
            await wait_until_answered(is_there, f"one delivery, {state}", timeout=timeout)
        except AssertionError as error:
            error.add_note(f"there is: {found}")
            raise
        delivery: dict[str, Any] = await self.get(f"/api/deliveries/{found[0]['id']}")
        return delivery

    async def until(
        self, holds: Callable[[], Awaitable[bool]], what: str, *, timeout: float = DELIVERED_SECONDS
    ) -> None:
        """Look again until it holds."""
        await wait_until_answered(holds, what, timeout=timeout)

    # --- notifications ---------------------------------------------------------------------------

    async def notify(self, channel: str, to: str, subject: str = "Hello", body: str = "Hi") -> str:
        """A notification; its id."""
        document = {"channel": channel, "to": to, "subject": subject, "body": body}
        answer = await self.call("POST", "/api/notifications", document)
        assert answer.status == 202, str(answer)
        return str(answer.json()["id"])

    async def notification(
        self, notification_id: str, state: str, *, timeout: float = DELIVERED_SECONDS
    ) -> dict[str, Any]:
        """It, once it is in this state."""
        found: dict[str, Any] = {}

        async def is_there() -> bool:
            found.update(await self.get(f"/api/notifications/{notification_id}"))
            return bool(found["state"] == state)

        try:
            await wait_until_answered(is_there, f"a notification, {state}", timeout=timeout)
        except AssertionError as error:
            error.add_note(f"there is: {found}")
            raise
        return found
