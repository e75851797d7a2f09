"""The packages of the peers on Node.js: installed once, outside the tree."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.failures import RunFailed

MANIFEST = Path(__file__).parent.parent / "peers" / "package.json"
INSTALL_SECONDS = 300.0


def is_available() -> bool:
    """Whether there is a Node.js with which to run anything."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def versions() -> dict[str, str]:
    """Node.js's own version, and those of the peers' packages; nothing where it is not there."""
    if not is_available():
        return {}
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    packages: dict[str, str] = json.loads(MANIFEST.read_bytes())["dependencies"]
    return {"node": done.stdout.strip().removeprefix("v"), **packages}


def modules() -> Path:
    """The directory for ``NODE_PATH``, in the user's cache; installs into it what is missing.

    Raises:
        RunFailed: npm could not install.
    """
    manifest = MANIFEST.read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bulkhead-trio-bench"
    home = cache / f"node-{hashlib.sha256(manifest).hexdigest()[:12]}"
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _install(manifest, home)
    return home / "node_modules"


def _install(manifest: bytes, home: Path) -> None:
    """Install beside ``home``, then rename: what is there is whole."""
    with tempfile.TemporaryDirectory(dir=home.parent) as temporary:
        directory = Path(temporary) / "node"
        directory.mkdir()
        (directory / "package.json").write_bytes(manifest)
        done = subprocess.run(
            ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--omit=dev"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise RunFailed(f"npm could not install the peers: {done.stderr.strip()[-500:]}")
        directory.rename(home)
