"""The system account that PostgreSQL runs as, and what that account must be able to reach.

PostgreSQL refuses to run as root. An ordinary user runs it as herself; root runs it as the owner
of the cluster, and a new cluster as the account `ACCOUNT_NAME`, which is made when it is missing.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import trio

from bulkhead_trio.database.embedded._errors import EmbeddedServerError

ACCOUNT_NAME = "pgserver"
"""The name that the wheel with PostgreSQL in it uses as well."""

_PASS = stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH
_READ = stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH


@attrs.frozen
class Account:
    """A system account other than the one this process runs as."""

    uid: int
    gid: int

    def process_options(self) -> dict[str, Any]:
        """What makes ``subprocess`` run something as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def may(self, rights: tuple[int, int, int], path: Path) -> bool:
        """Whether the mode of ``path`` grants one of the rights (owner's, group's, others')."""
        status = path.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & rights[0])
        if status.st_gid == self.gid:
            return bool(status.st_mode & rights[1])
        return bool(status.st_mode & rights[2])


async def choose_account(directory: Path) -> Account | None:
    """The account to run the cluster in ``directory`` as; ``None`` for the caller's own.

    Raises:
        EmbeddedServerError: this is root, and the account is missing and cannot be made.
    """
    if os.geteuid() != 0:
        return None
    owner = _owner(directory)
    if owner is not None and owner.uid != 0:
        return owner
    return _look_up() or await _make_account()


def _owner(directory: Path) -> Account | None:
    try:
        status = directory.stat()
    except FileNotFoundError:
        return None
    return Account(status.st_uid, status.st_gid)


def _look_up() -> Account | None:
    try:
        entry = pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid)


async def _make_account() -> Account:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    try:
        result = await trio.run_process(
            [*command, ACCOUNT_NAME], capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
    except FileNotFoundError:
        said = "there is no useradd"
    else:
        said = result.stdout.decode(errors="replace").strip()
    # Whatever useradd said: another process may have made the account at the same moment.
    account = _look_up()
    if account is None:
        raise EmbeddedServerError(
            f"PostgreSQL does not run as root, and the account {ACCOUNT_NAME} cannot be made "
            f"({said}). Run this as an ordinary user, or create the account."
        )
    return account


def open_way(account: Account, path: Path) -> list[Path]:
    """Let ``account`` pass through the directories above ``path``.

    Those that it cannot pass get the right to be passed through by everyone (``o+x``), which shows
    nobody what is in them.

    Returns:
        The directories that were changed.
    """
    closed = [parent for parent in path.parents if not account.may(_PASS, parent)]
    for parent in reversed(closed):
        parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXOTH)
    return closed


def open_installation(account: Account, directory: Path) -> list[Path]:
    """Let ``account`` read and run what is installed in ``directory``.

    An installation made under a strict umask is readable by its owner only; then its files get
    ``o+r``, its directories and programs also ``o+x``.

    Returns:
        The files and directories that were changed, and those that `open_way` did.
    """
    changed = open_way(account, directory)
    for path in (directory, *_tree(directory)):
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if mode != wanted and not (account.may(_READ, path) and account.may(_PASS, path)):
            path.chmod(wanted)
            changed.append(path)
    return changed


def _tree(directory: Path) -> Iterator[Path]:
    for name in ("bin", "lib", "share"):
        yield directory / name
        for path in (directory / name).rglob("*"):
            if not path.is_symlink():
                yield path
