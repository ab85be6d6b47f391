"""Starting: every fault at once with its remedy, and a start after a clean or an unclean end."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.authority import Authority
from tests.conftest import start_installation
from tests.contract.conftest import running_redis

from tenantry.foundation.database.embedded import EmbeddedPostgres

COMMAND = [sys.executable, "-m", "tenantry.entrypoints.server"]


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def refused_start(home: Path, *, port: int = 0, **environment: str) -> str:
    """Start a server that must refuse; give what it said."""
    done = subprocess.run(
        [*COMMAND, str(home), str(port)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_every_fault_of_a_start_is_told_at_once_with_its_remedy(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o711)
    (home / "tenantry.toml").write_text('surprise = 1\n[jobs]\nslots = "many"\n')
    nothing = tmp_path / "no-programs"
    nothing.mkdir()
    with taken_port() as port:
        said = refused_start(home, port=port, TENANTRY_AUDIT__SAMPLE_READS="7")
    for code in ("surprise", "jobs.slots", "audit.sample_reads", "port_taken"):
        assert code in said, said
    assert "--port" in said


def test_an_old_database_directory_is_refused_beside_a_taken_port(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = start_installation(home, TENANTRY_SERVE_REGIONS='["us"]')
    first.stop()
    version = EmbeddedPostgres(home).location / "data" / "PG_VERSION"
    version.write_text("14\n")
    try:
        with taken_port() as port:
            said = refused_start(home, port=port)
        assert "port_taken" in said
        assert "14" in said
    finally:
        version.write_text("18\n")
        EmbeddedPostgres(home).purge()


def test_a_database_that_does_not_answer_is_named_by_region(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o711)
    url = "postgresql://tenantry_app:x@127.0.0.1:1/tenantry_ap"
    said = refused_start(
        home,
        TENANTRY_DATABASE__DIRECTORY_URL=url,
        TENANTRY_REGIONS=json.dumps({"ap": {"app_url": url, "dispatcher_url": url, "sealer_url": url}}),
    )
    assert "postgresql_ap" in said
    assert "regions.ap.app_url" in said
    assert "tenantry_app:x" not in said


def test_a_certificate_of_the_link_that_cannot_be_used_is_named_beside_every_other_fault(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("nobody", names=["nobody.example"]).write(tmp_path, "nobody")
    url = "postgresql://tenantry_app:x@127.0.0.1:1/tenantry_ap"
    region = {"app_url": url, "dispatcher_url": url, "sealer_url": url}
    said = refused_start(
        tmp_path / "home",
        TENANTRY_DATABASE__DIRECTORY_URL=url,
        TENANTRY_REGIONS=json.dumps({"ap": region}),
        TENANTRY_WORKER_LINK__CA_FILE=str(authority.write(tmp_path)),
        TENANTRY_WORKER_LINK__CERTIFICATE_FILE=str(certificate),
        TENANTRY_WORKER_LINK__KEY_FILE=str(key),
    )
    assert f"tls_unusable: worker_link.certificate_file: {certificate}" in said
    assert "server.tenantry" in said
    assert "postgresql_ap" in said


@pytest.mark.parametrize(
    ("redis", "told"),
    [
        ("redis://:hunter2@127.0.0.1:1/0", "did not answer"),
        ("https://:hunter2@cache.example", "begins with redis://"),
        ("evicting", "evicts keys"),
    ],
)
def test_a_key_value_store_that_cannot_be_used_is_named_beside_every_other_fault(
    redis: str, told: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o711)
    url = "postgresql://tenantry_app:x@127.0.0.1:1/tenantry_ap"
    with running_redis("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as server, taken_port() as port:
        region = {"app_url": url, "dispatcher_url": url, "sealer_url": url}
        said = refused_start(
            home,
            port=port,
            TENANTRY_DATABASE__DIRECTORY_URL=url,
            TENANTRY_REGIONS=json.dumps({"ap": region | {"redis_url": server.url if redis == "evicting" else redis}}),
        )
    for fault in ("port_taken", "postgresql_ap", "postgresql_directory", "redis_ap", "regions.ap.redis_url", told):
        assert fault in said, said
    assert "hunter2" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_starts_again_with_all_it_knew(tmp_path: Path, number: signal.Signals) -> None:
    home = tmp_path / "home"
    first = start_installation(home)
    slug = "kept"
    body = {"name": slug, "slug": slug, "plan": "free", "region": "eu", "owner": {"email": "a@b.example", "name": "A"}}
    made = first.platform.post("/tenants", json=body).json()
    first.stop(number)
    second = start_installation(home)
    try:
        assert second.platform_key == first.platform_key
        assert second.platform.get(f"/tenants/{slug}").json()["id"] == made["id"]
        assert second.client(made["bootstrap_key"]["secret"]).get("/me").status_code == 200
    finally:
        second.stop()
        EmbeddedPostgres(home).purge()
