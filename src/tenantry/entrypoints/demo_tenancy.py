"""Scenes of the demo in which a tenant's place changes, and its neighbour notices nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from tenantry.client.errors import ApiError
from tenantry.client.surface import Client
from tenantry.client.types import TenantOperation
from tenantry.entrypoints.demo_cast import Cast, Party, Work, refusal_of
from tenantry.entrypoints.demo_stage import Stage

_KEPT: Final = Work(command=("sh", "-c", "echo said; echo kept > kept.txt"), artifacts=("kept.txt",))
_LOOK_SECONDS: Final = 0.1
_RUNNING: Final = ("waiting", "running")


def overlays(stage: Stage, cast: Cast) -> None:
    """Lay a target over the platform's for one tenant."""
    stage.scene("Targets in layers: acme promises 100 ms, globex keeps the platform's 500")
    cast.acme.owner.tenants.set_slos(cast.acme.id, {"latency_p95_ms": 100.0})
    for party, layer, value in ((cast.acme, "tenant", 100.0), (cast.globex, "platform", 500.0)):
        found = party.owner.workspaces.slos(party.workspace, explain=True)
        stage.expect(
            f"{party.slug}: latency_p95_ms is {value:g}, from the layer {layer}",
            held=(found["slos"]["latency_p95_ms"], (found["layers"] or {}).get("latency_p95_ms")) == (value, layer),
        )


def strategies(stage: Stage, cast: Cast) -> None:
    """Move acme to a schema and to a database of its own while somebody writes all the time."""
    acme = cast.acme
    stage.scene("A move: acme gets a schema, then a database of its own, while it is being written to")
    acme.owner.workspaces.update(acme.workspace, {"settings": {"persistence_mode": "full"}})
    job = acme.start(_KEPT, wait_seconds=30)
    with _writing(acme) as (made, refused):
        for isolation in ("schema_level", "database_level"):
            operation = _moved(cast, acme, isolation=isolation)
            stage.expect(
                f"acme is moved to {isolation}", held=operation["status"] == "succeeded", seen=_seen(operation)
            )
    stage.tell(f"writes meanwhile: {len(made)} made, {len(refused)} refused for a moment ({_told(refused)})")
    names = {workspace["id"] for workspace in acme.owner.workspaces.list()}
    stage.expect("every write that was acknowledged is there", held=bool(made) and set(made) <= names)
    stage.expect(
        "a refused one was told to come again",
        held={code for _, code in refused} <= {"tenant_read_only", "tenant_moved"},
    )
    _still_there(stage, acme, job["id"])


def another_region(stage: Stage, cast: Cast) -> None:
    """Take globex to acme's region, which two administrators must want."""
    if cast.acme.region == cast.globex.region:
        return
    globex, region = cast.globex, cast.acme.region
    stage.scene(f"Another region: globex goes to {region}, once two administrators agree")
    globex.owner.workspaces.update(globex.workspace, {"settings": {"persistence_mode": "full"}})
    job = globex.start(_KEPT, wait_seconds=30)
    operation = cast.platform.tenants.move(globex.id, region=region, grace_seconds=0)
    stage.expect("the move waits", held=operation["status"] == "waiting", seen=operation["status"])
    stage.expect_refusal(
        "whoever asked confirms it",
        refusal_of(lambda: cast.platform.tenants.confirm(globex.id, operation["id"])),
        status=403,
        code="confirmer_same",
    )
    globex.owner.tenants.confirm(globex.id, operation["id"])
    ended = _ended(cast, globex, operation)
    stage.expect("its owner confirms, and it is done", held=ended["status"] == "succeeded", seen=_seen(ended))
    stage.expect(f"globex works in {region} with the keys it had", held=globex.owner.me()["tenant"]["region"] == region)
    _still_there(stage, globex, job["id"])


def _still_there(stage: Stage, party: Party, job: str) -> None:
    log = "".join(piece.text for piece in party.operator.jobs.logs(party.workspace, job))
    (artifact,) = party.operator.jobs.artifacts(party.workspace, job)
    held = log == "said\n" and artifact["size_bytes"] == len("kept\n")
    stage.expect("output and artifact of a job before the move are there", held=held, seen=log)
    again = party.start(Work(command=("true",)), wait_seconds=30)
    stage.expect("and jobs run", held=again["status"] == "succeeded", seen=again["status"])


def _moved(cast: Cast, party: Party, *, isolation: str) -> TenantOperation:
    return _ended(cast, party, cast.platform.tenants.move(party.id, isolation=isolation, grace_seconds=0))


def _ended(cast: Cast, party: Party, operation: TenantOperation) -> TenantOperation:
    while operation["status"] in _RUNNING:
        time.sleep(_LOOK_SECONDS)
        operation = cast.platform.tenants.operation(party.id, operation["id"])
    return operation


@contextmanager
def _writing(party: Party) -> Iterator[tuple[list[str], list[tuple[int, str]]]]:
    """Make service accounts without a pause; gives what was acknowledged and what was refused."""
    made: list[str] = []
    refused: list[tuple[int, str]] = []
    stop = threading.Event()

    def write(client: Client) -> None:
        while not stop.is_set():
            try:
                made.append(client.workspaces.create(name="w", owner={"type": "team", "id": "writers"})["id"])
            except ApiError as error:
                refused.append((error.status, error.code))

    writer = threading.Thread(target=write, args=(party.owner,))
    writer.start()
    try:
        yield made, refused
    finally:
        stop.set()
        writer.join()


def _seen(operation: TenantOperation) -> str:
    begun, ended = (datetime.fromisoformat(operation[name]) for name in ("created_at", "updated_at"))
    return f"{operation['status']} after {(ended - begun).total_seconds():.1f} s"


def _told(refused: list[tuple[int, str]]) -> str:
    return ", ".join(sorted({f"{status} {code}" for status, code in refused})) or "none"
