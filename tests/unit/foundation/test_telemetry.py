"""Logs: one line of JSON for one event, whatever it holds; no secret by name or by form; trace ids."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tenantry.capabilities.identity.types import ScopeKind, make_credential
from tenantry.foundation.database.places import SHARED, database_of, schema_of, tenant_at
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.telemetry import mask_secrets, trace_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"

LOGS = """
import logging, sys, uuid
import structlog
from tenantry.foundation.scope import SYSTEM, TenantScope, scoped
from tenantry.foundation.telemetry import configure_logging

configure_logging("info")
hostile = sys.argv[1]
log = structlog.get_logger()
log.info("plain", value=hostile, inner={"list": [hostile]})
log.info(hostile, **{hostile: 1})
log.debug("not asked for")
with scoped(TenantScope(tenant_id=uuid.UUID(int=5), region="us", actor=SYSTEM, trace_id="t" * 32)):
    log.warning("scoped", token="hunter2")
logging.getLogger("library").warning("from %s", hostile)
logging.getLogger("library").info("too small")
try:
    raise ValueError("postgresql://app:hunter2@db/x " + hostile)
except ValueError:
    log.exception("failed")
    logging.getLogger("library").exception("failed there")
"""


def masked(**event: Any) -> dict[str, Any]:
    return dict(mask_secrets(None, "info", event))


SECRET_NAMES = [
    "password",
    "db_password",
    "secret",
    "client_secret",
    "token",
    "id_token",
    "Authorization",
    "api_key",
    "apikey",
    "API_KEY",
    "credential",
    "credentials",
    "cookie",
    "Set-Cookie",
    "SECRET_ACCESS_KEY",
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_what_is_named_like_a_secret_is_masked_whatever_it_holds(name: str) -> None:
    event = masked(**{name: "hunter2"}, inner={name: ["hunter2"], "deeper": [{name: {"a": "hunter2"}}]})
    assert "hunter2" not in str(event)
    assert event[name] == "***"


@pytest.mark.parametrize("region", ["us", "eu-west-1"])
@pytest.mark.parametrize("kind", ScopeKind)
def test_a_key_is_masked_wherever_it_stands(region: str, kind: ScopeKind) -> None:
    scope_id = None if kind is ScopeKind.PLATFORM else new_id()
    key = make_credential(region=region, kind=kind, scope_id=scope_id).text
    secret = key.split("_")[3]
    event = masked(
        event=f"Bearer {key}",
        torn=key.rpartition("_")[0],
        pair=[key, (key,), {key}],
        inner={"header": key},
        error=ValueError(key),
        raw=key.encode(),
        count=3,
        share=0.5,
        nothing=None,
        yes=True,
    )
    assert secret not in str(event)
    assert event["event"] == "Bearer [masked]"
    assert (event["count"], event["share"], event["nothing"], event["yes"]) == (3, 0.5, None, True)


def test_the_password_of_an_address_is_masked_and_its_rest_told() -> None:
    told = masked(event="at postgresql://app:hunter2@db:5432/x and redis://:p@ss@cache/0, https://example.com/a")
    assert "hunter2" not in told["event"]
    assert "p@ss" not in told["event"]
    assert "postgresql://app:***@db:5432/x" in told["event"]
    assert "https://example.com/a" in told["event"]


def test_every_event_is_one_line_of_json_that_nothing_in_it_can_break() -> None:
    hostile = 'x\r\n{"event":"forged"}\n\x1b[2J\x1b]0;t\x07\u2028\u0085\x0b\x0c'
    run = subprocess.run(
        [sys.executable, "-c", LOGS, hostile], capture_output=True, check=True, timeout=60, env=dict(os.environ)
    )
    assert run.stdout == b""
    text = run.stderr.decode()
    events = [json.loads(line) for line in text.splitlines()]
    assert len(events) == 6
    assert not set(text) & set("\r\x1b\x07\u2028\u0085\x0b\x0c")
    assert b"hunter2" not in run.stderr
    plain, odd, scoped, library, failed, failed_there = events
    assert (plain["value"], plain["inner"], plain["level"]) == (hostile, {"list": [hostile]}, "info")
    assert (odd["event"], odd[hostile]) == (hostile, 1)
    assert (scoped["tenant"], scoped["trace_id"]) == ("00000000-0000-0000-0000-000000000005", "t" * 32)
    assert (library["event"], library["logger"]) == (f"from {hostile}", "library")
    assert "postgresql://app:***@db/x" in failed["exception"]
    assert "postgresql://app:***@db/x" in failed_there["exception"]


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_a_callers_trace_id_is_taken(flags: str) -> None:
    assert trace_id_of(f"00-{TRACE}-{PARENT}-{flags}") == TRACE


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        TRACE,
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-extra",
        f"00-{TRACE}-{PARENT}-01\n",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}\n-{PARENT}-01",
        f"00-{'٣' * 32}-{PARENT}-01",
    ],
)
def test_one_that_the_standard_does_not_allow_is_replaced(traceparent: str | None) -> None:
    made = trace_id_of(traceparent)
    assert made not in (TRACE, "0" * 32)
    assert len(made) == 32
    assert set(made) <= set("0123456789abcdef")
    assert trace_id_of(traceparent) != made


@pytest.mark.parametrize("region", ["us", "us-east"])
def test_whose_a_place_is_can_be_read_where_the_name_of_its_database_looks_like_a_key(region: str) -> None:
    tenant = new_id()
    for name in (database_of(region, tenant), schema_of(tenant)):
        assert masked(place=tenant_at(name)) == {"place": format_id(Prefix.TENANT, tenant)}
    assert masked(place=database_of(region, tenant)) == {"place": "[masked]"}
    assert tenant_at(SHARED) == SHARED
