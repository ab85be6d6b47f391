"""`tenantry login --tenant`: a browser, a loopback listener, and tokens that renew themselves."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.ending import killed_after
from tests.integration.logins.conftest import Ground, MakeGround
from tests.issuer import Person, target_of

from tenantry.client import AsyncClient, Client, CredentialsError

_ENTRY = "from tenantry.interfaces.cli.app import build_app; build_app()(prog_name='tenantry')"
_ADDRESS = re.compile(r"log in at: (\S+)")


def _environment(home: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TENANTRY_HOME": str(home), **more}


@contextmanager
def _logging_in(ground: Ground, home: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", _ENTRY, "login", "--url", ground.tenant.installation.url, "--no-browser"]
    process = subprocess.Popen(
        [*command, "--tenant", ground.tenant.slug, *arguments],
        env=_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with killed_after(process):
        yield process


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := _ADDRESS.search(line):
            return found[1]
    raise AssertionError("no address was shown")


def _log_in(ground: Ground, home: Path, person: Person) -> None:
    with _logging_in(ground, home, "--provider", "corp") as process:
        page = person.go(_address(process), until="nowhere:")
        assert "Logged in." in page.text
        assert process.wait(timeout=30) == 0


def _run(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", _ENTRY, *arguments]
    return subprocess.run(
        command, env=_environment(home, **environment), capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _stored(home: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((home / "credentials.json").read_text())["login"]
    return found


def test_a_person_logs_in_and_out_from_the_command_line(ground: Ground, home: Path) -> None:
    _log_in(ground, home, ground.person())
    file = home / "credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    shown = _run(home, "whoami", "--output", "json")
    assert json.loads(shown.stdout)["login"]["kind"] == "program"
    token = _stored(home)["access_token"]
    assert _run(home, "logout").returncode == 0
    assert not file.exists()
    assert ground.me(token).status_code == 401
    assert _run(home, "whoami").returncode != 0


def test_somebody_elses_answer_is_not_taken(ground: Ground, home: Path) -> None:
    """A page that guesses the port brings no state; the login goes on waiting for its own."""
    person = ground.person()
    with _logging_in(ground, home) as process:
        address = _address(process)
        listener = httpx.URL(address).params["redirect"]
        for query in ("", "?code=x", "?code=x&state=y", "?state=y&state=z"):
            assert httpx.get(f"{listener}{query}").status_code == 404
        assert "Logged in." in person.go(address, until="nowhere:").text
        assert process.wait(timeout=30) == 0


def test_a_refusal_is_told(ground: Ground, home: Path) -> None:
    person = ground.person(email="x@elsewhere.example")
    with _logging_in(ground, home) as process:
        person.go(_address(process), until="nowhere:")
        assert process.wait(timeout=30) != 0
        assert process.stderr is not None
        assert "no_membership" in process.stderr.read()
    assert not (home / "credentials.json").exists()


def _expire(home: Path) -> None:
    """Let what is stored look as if its time were over."""
    file = home / "credentials.json"
    content = json.loads(file.read_text())
    content["login"]["expires_at"] = "2020-01-01T00:00:00+00:00"
    file.write_text(json.dumps(content))


def test_the_sdk_renews_what_is_over_and_keeps_it(ground: Ground, home: Path) -> None:
    _log_in(ground, home, ground.person())
    before = _stored(home)
    _expire(home)
    with Client(home=home) as client:
        assert client.me()["login"] is not None
    after = _stored(home)
    assert after["refresh_token"] != before["refresh_token"]
    with Client(home=home) as client:
        client.me()
    assert _stored(home) == after


async def test_of_two_clients_that_renew_at_once_neither_ends_the_login(ground: Ground, home: Path) -> None:
    """Both hold the same refresh token; the second finds what the first has stored."""
    import asyncio

    await asyncio.to_thread(_log_in, ground, home, ground.person())
    await asyncio.to_thread(_expire, home)
    async with AsyncClient(home=home) as first, AsyncClient(home=home) as second:
        found = await asyncio.gather(*(client.me() for client in (first, second, first, second)))
    assert len({str(me["principal"]) for me in found}) == 1
    with Client(home=home) as client:
        client.me()


def test_a_login_that_has_ended_is_told_with_its_remedy(ground: Ground, home: Path) -> None:
    _log_in(ground, home, ground.person())
    with Client(home=home) as client:
        assert client.logout(everywhere=True)["ended"] == 1
        with pytest.raises(CredentialsError, match="tenantry login"):
            client.me()


def test_what_comes_back_from_the_provider_is_a_redirect_to_the_listener(ground: Ground, home: Path) -> None:
    person = ground.person()
    with _logging_in(ground, home) as process:
        address = _address(process)
        listener = httpx.URL(address).params["redirect"]
        answer = person.go(address, until=listener)
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        person.browser.get(target_of(answer))
        assert process.wait(timeout=30) == 0


def test_an_administrator_lets_people_in_and_out(make_ground: MakeGround, home: Path, tmp_path: Path) -> None:
    ground = make_ground(rules=[])
    tenant = ground.tenant
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps([{"claim": "email", "matches_domain": "example.com", "role": "viewer"}]))

    def run(*arguments: str) -> Any:
        environment = {"TENANTRY_URL": tenant.installation.url, "TENANTRY_KEY": tenant.bootstrap_key}
        done = _run(home, *arguments, "--tenant", tenant.slug, "--output", "json", **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    (corp,) = run("identity-provider", "list")["items"]
    assert run("identity-provider", "update", corp["id"], "--rules-file", str(rules))["rules"][0]["role"] == "viewer"
    person, guest = ground.person(), ground.person(email="guest@elsewhere.example")
    token = ground.tokens(person).access
    member = ground.me(token).json()["principal"]["id"]
    assert len(run("member", "logins", member)["items"]) == 1
    assert run("member", "logout", member) == {"ended": 1}
    assert ground.me(token).status_code == 401

    offered = run("invitation", "create", "guest@elsewhere.example", "--role", "auditor")
    assert ground.me(ground.tokens(guest).access).status_code == 200
    assert [each["status"] for each in run("invitation", "list")["items"]] == ["accepted"]
    assert run("invitation", "revoke", offered["id"])["status"] == "accepted"

    assert run("identity-provider", "delete", corp["id"]) is None
    assert run("identity-provider", "list")["items"] == []
