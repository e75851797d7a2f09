"""`/metrics/bulkheads`, `/metrics`, `/openapi.json` and `/docs`."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ._client import ask, ask_data
from ._server import Server, bulkheads
from .conftest import StartServer

DEFAULTS: dict[str, dict[str, int | None]] = {
    "free": {"connections": 5, "workers": 10, "queue": 20, "limit": 100},
    "pro": {"connections": 20, "workers": 30, "queue": 60, "limit": 1000},
    "enterprise": {"connections": 50, "workers": 60, "queue": 120, "limit": None},
}
LABELS = {"tier", "pipeline", "incident", "breaker", "reason", "outcome", "state", "le"}
STANDARD = ("process_", "python_")


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    return start_server({})


async def scrape(server: Server) -> dict[str, Metric]:
    """The families of ``/metrics``, parsed by Prometheus's own parser."""
    answer = await ask(server.address, "/metrics")
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("text/plain")
    families = text_string_to_metric_families(answer.body.decode("utf-8"))
    return {family.name: family for family in families}


async def test_bulkheads_show_every_tier_as_configured(server: Server) -> None:
    """The defaults of the contract, member by member."""
    members = await bulkheads(server)
    assert set(members) == set(DEFAULTS)
    for tier, expected in DEFAULTS.items():
        shown = members[tier]
        pool, threads = shown["connectionPool"], shown["threadPool"]
        assert {"active", "idle", "pending", "max"} <= pool.keys()
        assert pool["max"] == expected["connections"]
        assert {"active", "queued", "poolSize", "queueSize"} <= threads.keys()
        assert threads["poolSize"] == expected["workers"]
        assert threads["queueSize"] == expected["queue"]
        assert shown["circuitBreaker"]["state"] == "CLOSED"
        assert shown["circuitBreaker"]["failures"] == 0
        assert {"rate_limited", "bulkhead_full", "circuit_open", "deadline"} <= shown[
            "rejected"
        ].keys()
        assert {"p50", "p95", "p99"} <= shown["latencyMs"].keys()
        limit = shown["rateLimit"]
        if expected["limit"] is None:
            assert limit is None or limit["limit"] is None
        else:
            assert limit["limit"] == expected["limit"]
            assert limit["windowSeconds"] == 60


async def test_bulkheads_show_what_requests_have_done(server: Server) -> None:
    """Latency, what remains of the quota and idle connections follow from requests."""
    for _ in range(5):
        assert (await ask_data(server.address)).status == 200
    free = (await bulkheads(server))["free"]
    latency = free["latencyMs"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] < 5000
    assert free["rateLimit"]["remaining"] <= 95
    assert 1 <= free["connectionPool"]["idle"] <= 5
    assert free["connectionPool"]["active"] == 0


async def test_prometheus_reads_the_metrics(server: Server) -> None:
    """Names are ours or the client library's, numbers are numbers, and labels are the few."""
    families = await scrape(server)
    assert families
    for name, family in families.items():
        assert name.startswith(("bulkhead_", *STANDARD)), name
        if name.startswith("bulkhead_"):
            assert not name.endswith(("_ms", "_milliseconds", "_kb")), name
            assert family.documentation, name
        for sample in family.samples:
            assert not math.isnan(sample.value), sample
            if name.startswith("bulkhead_"):
                assert set(sample.labels) <= LABELS, sample


async def test_prometheus_has_a_latency_histogram_for_every_tier(server: Server) -> None:
    """One histogram in seconds, with each tier's requests in it."""
    for tier in DEFAULTS:
        assert (await ask_data(server.address, tier)).status == 200
    families = await scrape(server)
    histograms = [
        family
        for family in families.values()
        if family.type == "histogram" and family.name.endswith("_seconds")
    ]
    counted = {
        sample.labels["tier"]
        for family in histograms
        for sample in family.samples
        if sample.name.endswith("_count") and "tier" in sample.labels and sample.value >= 1
    }
    assert counted >= set(DEFAULTS)


async def test_prometheus_series_do_not_grow_with_what_callers_send(server: Server) -> None:
    """Paths, ids and made-up tiers of callers never become labels."""
    await ask(server.address, "/nowhere-0")
    await ask(server.address, "/api/data", headers={"X-Tenant-Tier": "made-up-0"})
    await ask_data(server.address)
    before = sum(len(family.samples) for family in (await scrape(server)).values())
    for number in range(1, 30):
        await ask(server.address, f"/nowhere-{number}", method=f"VERB{number}")
        await ask(server.address, "/api/data", headers={"X-Tenant-Tier": f"made-up-{number}"})
        await ask_data(server.address, query=f"?q={number}", headers={"X-Request-Id": f"i{number}"})
    after = sum(len(family.samples) for family in (await scrape(server)).values())
    assert after == before


async def test_openapi_names_every_path(server: Server) -> None:
    """The description is OpenAPI 3 and has each path that the server has, with its answers."""
    answer = await ask(server.address, "/openapi.json")
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("application/json")
    document = answer.json()
    assert document["openapi"].startswith("3.")
    assert document["info"]["title"]
    assert document["info"]["version"]
    assert {"/health", "/ready", "/api/data", "/metrics/bulkheads", "/metrics"} <= set(
        document["paths"]
    )
    data = document["paths"]["/api/data"]["get"]
    assert {"200", "400", "429", "503", "504"} <= set(data["responses"])
    names = {parameter["name"].lower() for parameter in resolved(document, data["parameters"])}
    assert {"x-tenant-tier", "limit"} <= names
    for reference in re.findall(rb'"\$ref":\s*"([^"]+)"', answer.body):
        resolve(document, reference.decode())


def resolved(document: Any, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each item itself, or what its reference points at."""
    return [resolve(document, item["$ref"]) if "$ref" in item else item for item in items]


def resolve(document: Any, reference: str) -> dict[str, Any]:
    """Follow a local reference; one that leads nowhere or elsewhere raises."""
    assert reference.startswith("#/"), reference
    for part in reference[2:].split("/"):
        assert isinstance(document, dict)
        document = document[part.replace("~1", "/").replace("~0", "~")]
    assert isinstance(document, dict)
    return document


class _Loads(HTMLParser):
    """Collects what a browser would load for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "srcset", "data", "poster"} or (name, tag) == ("href", "link"):
                self.addresses.append(value or "")


async def test_docs_load_nothing_from_elsewhere(server: Server) -> None:
    """The page works on a machine without a network: whatever it loads is on this server."""
    answer = await ask(server.address, "/docs")
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("text/html")
    page = answer.body.decode("utf-8")
    parser = _Loads()
    parser.feed(page)
    for address in parser.addresses:
        assert not re.match(r"(?i)(https?:)?//", address.strip()), address
        if address.startswith("/"):
            assert (await ask(server.address, address)).status == 200
    assert not re.search(r"(?i)(url\(|@import|fetch\(|import\s)\s*['\"]?(https?:)?//", page)
    assert "/api/data" in page or "openapi.json" in page
