"""A PostgreSQL of one's own that throws everyone out, or is not there."""

from __future__ import annotations

import signal
from pathlib import Path

import trio

from ._client import ask, ask_data
from ._database import running_queries, terminate_backends
from ._server import free_port, light_load, running_server, wait_at_rest, wait_until
from .conftest import CreateDatabase, StartServer


async def test_connections_terminated_under_load_are_replaced(start_server: StartServer) -> None:
    """Every connection ended by PostgreSQL: a few 503 at the most, then 200, breaker included."""
    server = start_server({"BULKHEAD_TIERS__PRO__RATE_LIMIT": ""})
    assert server.database is not None
    async with light_load(server) as load:
        await wait_until(lambda: len(load.statuses) > 20, "some load")
        for _ in range(3):
            assert terminate_backends(server.database) > 0
            ended = trio.current_time()
            await trio.sleep(1.0)
            after = load.since(ended)
            assert set(after) <= {200, 503}
            assert after.count(503) <= 4, after
            assert after[-5:] == [200] * 5, after
    await wait_at_rest(server)
    assert not running_queries(server.database)


async def test_start_without_a_database_is_told_or_waited_out(data_dir: Path) -> None:
    """Nobody listens at DATABASE_URL: one clear line and exit 1, or alive and not ready."""
    url = f"postgresql://someone:hunter2secret@127.0.0.1:{free_port()}/nothing"
    with running_server({}, data_dir=data_dir, database=url, until_ready=False) as server:
        alive = False
        with trio.move_on_after(15):
            while server.process.poll() is None and not alive:
                alive = await is_alive(server.address)
                await trio.sleep(0.05)
        assert "hunter2secret" not in server.output, "the password is on the terminal"
        assert "Traceback" not in server.output, server.tail()
        if server.process.poll() is not None:
            assert server.process.returncode == 1, server.tail()
            assert "database" in server.output.lower(), server.tail()
            return
        assert alive, server.tail()
        answer = await ask(server.address, "/ready")
        assert answer.status == 503
        assert answer.json()["status"] == "not_ready"
        assert (await ask_data(server.address)).status == 503
        server.signal(signal.SIGTERM)
        assert await server.exit_code() == 0


async def is_alive(address: tuple[str, int]) -> bool:
    """Whether `/health` answers."""
    try:
        return (await ask(address, "/health", timeout=2)).status == 200
    except OSError:
        return False


async def test_database_without_tables_is_migrated(
    create_database: CreateDatabase, data_dir: Path
) -> None:
    """`serve` on an empty database of one's own sets it up, as on the embedded one."""
    database = create_database()
    with running_server({}, data_dir=data_dir, database=database) as server:
        assert (await ask_data(server.address)).json()
