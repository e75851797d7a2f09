"""Gateways, tenants and upstreams that misbehave, for the tests from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from bulkhead_trio.testing.upstream import Script, ScriptedUpstreamProcess

from ..conftest import CreateDatabase
from ._gateway import Gateway, running_gateway
from ._redis import RedisServer, running_redis

StartUpstream = Callable[[Script], ScriptedUpstreamProcess]
StartGateway = Callable[..., Gateway]


@pytest.fixture(scope="module")
def start_gateway(
    create_database: CreateDatabase, make_data_dir: Callable[[], Path]
) -> Iterator[StartGateway]:
    """Starts gateways for a module: ``start(instances, redis_url=..., variables=...)``."""
    with ExitStack() as stack:

        def start(
            count: int = 1,
            *,
            redis_url: str | None = None,
            variables: Mapping[str, str] | None = None,
        ) -> Gateway:
            return stack.enter_context(
                running_gateway(
                    count,
                    [make_data_dir() for _ in range(count)],
                    database=create_database(),
                    redis_url=redis_url,
                    variables=variables,
                )
            )

        yield start


@pytest.fixture(scope="module")
def _module_gateway(start_gateway: StartGateway) -> Gateway:
    return start_gateway()


@pytest.fixture
async def gateway(_module_gateway: Gateway) -> AsyncIterator[Gateway]:
    """One instance without Redis. It lasts for a module; what a test makes lasts for the test."""
    yield _module_gateway
    await _module_gateway.delete_tenants()


@pytest.fixture(scope="module")
def redis_server(make_data_dir: Callable[[], Path]) -> Iterator[RedisServer]:
    """A Redis for a module."""
    with running_redis(make_data_dir()) as server:
        yield server


@pytest.fixture(scope="module")
def start_upstream() -> Iterator[StartUpstream]:
    """Starts scripted upstreams for a module, each a process of its own."""
    with ExitStack() as stack:

        def start(script: Script = Script()) -> ScriptedUpstreamProcess:  # noqa: B008  frozen
            return stack.enter_context(ScriptedUpstreamProcess(script))

        yield start


@pytest.fixture(scope="module")
def _module_upstreams(start_upstream: StartUpstream) -> list[ScriptedUpstreamProcess]:
    return [start_upstream(Script()) for _ in range(2)]


def _as_new(upstream: ScriptedUpstreamProcess) -> ScriptedUpstreamProcess:
    upstream.play(Script())
    upstream.drop_connections()
    upstream.forget()
    return upstream


@pytest.fixture
def upstream(_module_upstreams: list[ScriptedUpstreamProcess]) -> ScriptedUpstreamProcess:
    """An upstream that has seen nothing, and answers with the request until it is told otherwise.

    It is one process for a module, so that a test does not wait for its start.
    """
    return _as_new(_module_upstreams[0])


@pytest.fixture
def other_upstream(_module_upstreams: list[ScriptedUpstreamProcess]) -> ScriptedUpstreamProcess:
    """A second one."""
    return _as_new(_module_upstreams[1])
