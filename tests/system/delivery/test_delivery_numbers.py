"""What an operator sees: ``/metrics/deliveries``, Prometheus, and the command line."""

from __future__ import annotations

import logging
import re
from typing import Any

from bulkhead_trio.testing.receiver import Answers, ReceiverProcess, dead, ok, slow

from .._client import ask
from .._server import Server, run_command, wait_until
from ._desk import Desk

_log = logging.getLogger(__name__)

PIPELINES = {"maxParallel", "active", "queued", "retrying", "deadLettered"}


async def numbers(server: Server) -> dict[str, Any]:
    """``GET /metrics/deliveries``."""
    answer = await ask(server.address, "/metrics/deliveries")
    assert answer.status == 200, str(answer)
    found: dict[str, Any] = answer.json()
    return found


async def test_numbers_say_what_each_pipeline_does(desk: Desk, receiver: ReceiverProcess) -> None:
    """Parallelism as set, what is under way, what waits, what is dead; breakers' states."""
    server = desk.gateway.servers[0]
    before = await numbers(server)
    webhooks, notifications = before["webhooks"], before["notifications"]
    assert (webhooks["maxParallel"], notifications["maxParallel"]) == (20, 8)
    for pipeline in (webhooks, notifications):
        assert pipeline.keys() >= PIPELINES
    receiver.behave({1: slow(0.8), 2: dead(), 3: Answers(status=400)})
    for number in (1, 2, 3):
        await desk.subscribe(receiver.url(number), f"to.{number}")
    for _ in range(6):
        await desk.send("to.1")
    await desk.send("to.2")
    await desk.send("to.3")

    seen = {"active": False, "retrying": False, "deadLettered": False}

    async def is_seen() -> bool:
        now = (await numbers(server))["webhooks"]
        for name in seen:
            seen[name] |= now[name] > webhooks[name]
        return all(seen.values())

    try:
        await desk.until(is_seen, "active, retrying and dead, at one time or another")
    finally:
        _log.info("seen: %s", seen)
    await wait_until(lambda: receiver.sums()[1].taken == 6, "all of the slow one", timeout=10)


async def test_numbers_are_in_prometheus_too(desk: Desk, receiver: ReceiverProcess) -> None:
    """Families of their own, with few labels."""
    hook = await desk.subscribe(receiver.url(1))
    await desk.send()
    await desk.delivery_of(hook, "delivered")
    answer = await ask(desk.gateway.servers[0].address, "/metrics")
    text = answer.body.decode()
    found = re.findall(r"^bulkhead_\w*(?:deliver|webhook|event|notification)\w*(?:\{.*\})? .*$",
                       text, re.MULTILINE)  # fmt: skip
    assert found, "no family about deliveries"
    assert desk.tenant.id not in text
    assert hook.id not in text


async def test_commands_list_show_and_replay(desk: Desk, receiver: ReceiverProcess) -> None:
    """What a person does about a dead letter, on the machine of the server."""
    server = desk.gateway.servers[0]
    receiver.behave({1: Answers(status=400, body="do not like it")})
    hook = await desk.subscribe(receiver.url(1))
    await desk.send()
    delivery = await desk.delivery_of(hook, "dead")
    settings = {"DATABASE_URL": server.database or "", "SECRET_KEY": "b" * 64}
    listed = run_command(["deliveries", "list", "--state", "dead"], settings)
    assert listed.returncode == 0, listed.stdout
    assert delivery["id"] in listed.stdout
    shown = run_command(["deliveries", "show", delivery["id"]], settings)
    assert shown.returncode == 0, shown.stdout
    assert "400" in shown.stdout
    assert "do not like it" in shown.stdout
    receiver.behave({1: ok()})
    replayed = run_command(["deliveries", "replay", "--yes", delivery["id"]], settings)
    assert replayed.returncode == 0, replayed.stdout
    await desk.delivery_of(hook, "delivered")
    missing = run_command(["deliveries", "show", f"dlv_{'0' * 32}"], settings)
    assert missing.returncode == 1, missing.stdout
    assert "Traceback" not in missing.stdout
