"""A server that applies what is declared in its home, and one directory of declarations."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.conftest import Installation, running_installation

WAIT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Declared:
    """A directory of declarations that a server reads."""

    installation: Installation
    folder: Path

    def write(self, slug: str, file: str | None = None, **fields: Any) -> Path:
        """Declare a tenant, in one step as an editor does."""
        owner = {"email": f"owner@{slug}.example", "name": "Owner"}
        document = {"slug": slug, "name": slug, "plan": "free", "region": "us", "isolation": "row_level"}
        text = yaml.safe_dump({**document, "owner": owner, **fields}, sort_keys=False)
        return self.write_text(file or f"{slug}.yaml", text)

    def write_text(self, file: str, text: str) -> Path:
        fresh = self.folder / f".{file}"
        fresh.write_text(text)
        fresh.chmod(0o644)
        return fresh.replace(self.folder / file)

    def reload(self) -> dict[str, Any]:
        answer = self.installation.platform.post("/platform/tenants/reload")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def reloaded(self, slug: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What a reload changed and skipped of one tenant."""
        found = self.reload()
        changed = [each for each in found["changed"] if each["tenant"] == slug]
        return changed, [each for each in found["skipped"] if each["file"] == f"{slug}.yaml"]

    def get(self, slug: str) -> httpx.Response:
        return self.installation.platform.get(f"/tenants/{slug}")

    def key(self, slug: str) -> str:
        return (self.installation.home / "bootstrap-keys" / f"{slug}.key").read_text().strip()


def slug() -> str:
    return f"d-{secrets.token_hex(5)}"


def eventually(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@pytest.fixture(scope="package")
def applying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Declared]:
    """A server with `declared_tenants: apply` that looks four times a second; `at-start` is declared before it runs."""
    home = tmp_path_factory.mktemp("declaring") / "home"
    folder = home / "tenants"
    folder.mkdir(parents=True, mode=0o755)
    home.chmod(0o711)
    (folder / "at-start.yaml").write_text(
        "tenant_id: at-start\nname: At start\ntype: free\nregion: eu\nisolation: row_level\n"
        "owner: {email: a@start.example, name: A}\n"
    )
    (folder / "at-start.yaml").chmod(0o644)
    with running_installation(
        home, TENANTRY_DECLARED_TENANTS="apply", TENANTRY_TENANTS_RELOAD_SECONDS="0.25"
    ) as started:
        yield Declared(started, folder)


@pytest.fixture(scope="package")
def checking(installation: Installation) -> Declared:
    """The common server, which only checks: the default."""
    folder = installation.home / "tenants"
    folder.mkdir(exist_ok=True)
    return Declared(installation, folder)
