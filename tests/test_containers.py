"""Dockerfile and docker-compose.yml, as far as they can be checked without building them."""

from __future__ import annotations

import fnmatch
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from bulkhead_trio.config import load_settings

INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip


@attrs.frozen
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    name: str
    value: str

    def json(self) -> list[str]:
        """The command of an instruction in exec form."""
        found = json.loads(self.value[self.value.index("[") :])
        assert all(isinstance(word, str) for word in found)
        return list(found)


def parse_dockerfile(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    words = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name.upper(), value) for name, value in words]


@pytest.fixture(scope="module")
def dockerfile(repository: Path) -> list[Instruction]:
    return parse_dockerfile((repository / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def final_stage(dockerfile: list[Instruction]) -> list[Instruction]:
    last = max(place for place, each in enumerate(dockerfile) if each.name == "FROM")
    return dockerfile[last:]


@pytest.fixture(scope="module")
def compose(repository: Path) -> dict[str, Any]:
    found = yaml.safe_load((repository / "docker-compose.yml").read_text())
    assert isinstance(found, dict)
    return found


def values(instructions: list[Instruction], name: str) -> list[str]:
    return [each.value for each in instructions if each.name == name]


def environment(instructions: list[Instruction]) -> dict[str, str]:
    pairs = [pair.partition("=") for value in values(instructions, "ENV") for pair in value.split()]
    return {name: value for name, _, value in pairs}


def is_pinned(image: str) -> bool:
    _, _, tag = image.partition(":")
    return bool(re.match(r"\d", tag))


# --- Dockerfile ----------------------------------------------------------------------------------


def test_dockerfile_has_two_pinned_stages(dockerfile: list[Instruction]) -> None:
    """What builds is left behind; both stages stand on the same base, which has a version."""
    assert {each.name for each in dockerfile} <= INSTRUCTIONS
    stages = [value.split() for value in values(dockerfile, "FROM")]
    assert len(stages) == 2
    assert stages[0][0] == stages[1][0], "a virtual environment fits the Python it was made with"
    assert all(is_pinned(stage[0]) for stage in stages)


def test_dockerfile_copies_only_what_is_there(
    repository: Path, dockerfile: list[Instruction]
) -> None:
    """Every source exists, is not ignored, and is all that the package is built from."""
    sources = [
        source
        for value in values(dockerfile, "COPY")
        if not value.startswith("--from=")
        for source in value.split()[:-1]
    ]
    patterns = (repository / ".dockerignore").read_text().split("\n")
    allowed = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    assert "*" in patterns
    for source in sources:
        assert (repository / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), source
    assert set(sources) == set(allowed), "ignored too little"


def test_dockerfile_installs_pinned_versions(dockerfile: list[Instruction]) -> None:
    """constraints.txt holds for what is installed."""
    assert environment(dockerfile)["PIP_CONSTRAINT"] == "/src/constraints.txt"
    assert values(dockerfile, "WORKDIR") == ["/src"]


def test_dockerfile_runs_as_nobody_special(final_stage: list[Instruction]) -> None:
    """The last stage ends as a user who is not root, in exec form, listening on every address."""
    (user,) = values(final_stage, "USER")
    assert user.split(":")[0] not in {"0", "root"}
    (command,) = [each for each in final_stage if each.name == "CMD"]
    assert command.json() == ["bulkhead-trio", "serve"]
    environ = environment(final_stage)
    assert environ["API_HOST"] == "0.0.0.0"  # noqa: S104
    assert values(final_stage, "VOLUME") == [environ["DATA_DIR"]]
    assert not values(final_stage, "ENTRYPOINT")


@contextmanager
def answering(status: int) -> Iterator[int]:
    """Something that answers every GET with a status; says its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Keep quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_dockerfile_health_check_works(final_stage: list[Instruction]) -> None:
    """The very command: 0 for a server that says 200, and not 0 for one that does not, or none."""
    (check,) = [each for each in final_stage if each.name == "HEALTHCHECK"]
    assert {"--interval", "--timeout", "--retries"} <= set(re.findall(r"--[a-z]+", check.value))
    command = [sys.executable, *check.json()[1:]]

    def exit_code(port: int) -> int:
        environ = {**os.environ, "API_PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
        return subprocess.run(
            command, env=environ, stderr=subprocess.DEVNULL, timeout=20, check=False
        ).returncode

    with answering(200) as port:
        assert exit_code(port) == 0
    assert exit_code(port) != 0
    with answering(503) as port:
        assert exit_code(port) != 0


# --- docker-compose.yml --------------------------------------------------------------------------


def substituted(text: str, **variables: str) -> str:
    """As Compose would, with an otherwise empty environment."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], text)


def test_compose_images_are_pinned_or_built_here(repository: Path, compose: dict[str, Any]) -> None:
    """No image is whatever happens to be the latest."""
    for name, service in compose["services"].items():
        if "build" in service:
            assert (repository / service["build"] / "Dockerfile").is_file()
        else:
            assert is_pinned(service["image"]), name


def test_compose_services_are_healthy_limited_and_closed(compose: dict[str, Any]) -> None:
    """Each says whether it is healthy, takes only so much, and can write only where it must."""
    for name, service in compose["services"].items():
        assert "healthcheck" in service or "build" in service, name  # the Dockerfile has one
        assert service["read_only"] is True, name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        assert "no-new-privileges:true" in service["security_opt"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network"


def test_compose_api_waits_for_a_healthy_database(compose: dict[str, Any]) -> None:
    """Nothing is started on a database that is not there yet."""
    services = compose["services"]
    assert services["api"]["depends_on"]["db"] == {"condition": "service_healthy"}
    check = services["db"]["healthcheck"]["test"]
    assert "pg_isready" in check
    assert f"--dbname={services['db']['environment']['POSTGRES_DB']}" in check


def test_compose_mounts_exist(repository: Path, compose: dict[str, Any]) -> None:
    """Volumes are declared, and files are in the repository: the SQL where the image looks."""
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            source, _, _ = mount.partition(":")
            if source.startswith("."):
                assert (repository / source).is_file(), source
            else:
                assert source in compose["volumes"], source
        assert set(service["networks"]) <= set(compose["networks"])
    mounts = compose["services"]["db"]["volumes"]
    assert "./init-db.sql:/docker-entrypoint-initdb.d/init-db.sql:ro" in mounts


def test_compose_configuration_is_accepted(
    compose: dict[str, Any], final_stage: list[Instruction]
) -> None:
    """The server takes what it is given, and finds its database and its data there."""
    services = compose["services"]
    api = {name: substituted(value) for name, value in services["api"]["environment"].items()}
    settings = load_settings(config_path=None, environ=api, overrides={})
    database = services["db"]["environment"]
    assert settings.database_url == (
        f"postgresql://{database['POSTGRES_USER']}@db:5432/{database['POSTGRES_DB']}"
    )
    assert f"{settings.api_port}" == services["api"]["ports"][0].rpartition(":")[2]
    assert f"api-data:{settings.data_dir}" in services["api"]["volumes"]
    assert str(settings.data_dir) == environment(final_stage)["DATA_DIR"]
    grace = int(services["api"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.shutdown_grace_seconds


def test_compose_has_no_secret_but_the_marked_default(
    repository: Path, compose: dict[str, Any]
) -> None:
    """One password, the same for both sides, and its default says what it is for."""
    password = "${POSTGRES_PASSWORD:-development-only}"
    services = compose["services"]
    assert services["api"]["environment"]["PGPASSWORD"] == password
    assert services["db"]["environment"]["POSTGRES_PASSWORD"] == password
    text = (repository / "docker-compose.yml").read_text()
    assert not re.search(r"://[^/\s]*:[^@/\s]*@", text), "a password in an address"
