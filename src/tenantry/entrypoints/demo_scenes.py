"""Scenes of the demo in which tenants do their work, and are refused what is not theirs."""

import csv
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from tenantry.capabilities.identity.types import ScopeKind, make_credential
from tenantry.client.credentials import Credentials, save
from tenantry.client.surface import Client
from tenantry.client.types import AuditEvent
from tenantry.entrypoints.demo_cast import KEYS, NAMES, Cast, Party, Work, free_slugs, given, refusal_of, shipped
from tenantry.entrypoints.demo_stage import Stage
from tenantry.entrypoints.servers import RunningServer
from tenantry.foundation.ids import Prefix, format_id, new_id, parse_id

_ADD_UP: Final = Work(
    command=("python3", "/inputs/summarise.py", "/inputs/orders.csv", "outputs/summary.csv"),
    inputs=given("summarise.py", "orders.csv"),
    artifacts=("outputs/*.csv",),
    env={"PACE": "0.15"},
)
_COUNT: Final = Work(
    command=("sh", "-c", "awk '{ print $7 }' /inputs/access.log | sort | uniq -c | sort -rn | head -n 4"),
    inputs=given("access.log"),
)


def two_tenants(stage: Stage, *, home: Path, server: RunningServer, platform: Client, regions: tuple[str, ...]) -> Cast:
    """Make the tenants, each in a region of its own where there are two."""
    stage.scene("Two tenants, each in a region of its own")
    slugs, alone = free_slugs(platform)
    acme, globex = (
        _moved_in(stage, name, slug=slugs[name], region=region, home=home, server=server, platform=platform)
        for name, region in zip(NAMES, (regions[0], regions[-1]), strict=True)
    )
    return Cast(home=home, server=server, platform=platform, acme=acme, globex=globex, alone=alone)


def _moved_in(
    stage: Stage, name: str, *, slug: str, region: str, home: Path, server: RunningServer, platform: Client
) -> Party:
    """Let the owner in by the bootstrap key, who makes a workspace, a service account and a key for it."""
    tenant = platform.tenants.create(
        name=slug,
        slug=slug,
        plan="starter",
        region=region,
        owner={"email": f"ada@{slug}.example", "name": "Ada"},
        quotas={"maxProjects": "unlimited"},  # a scene makes them without a pause, to lose one
    )
    owner = Client(url=server.url, key=tenant["bootstrap_key"]["secret"])
    me = owner.me()
    stage.expect(
        f"{slug} is made in {region}, and its owner let in by the bootstrap key",
        held=(me["tenant"]["slug"], me["tenant"]["region"]) == (slug, region),
    )
    workspace = owner.workspaces.create(name="research", owner={"type": "team", "id": "research"})
    account = owner.service_accounts.create(name="analyst", workspace=workspace["id"])
    key = owner.keys.create(
        name="analyst", roles=["operator"], workspace=workspace["id"], service_account=account["id"]
    )
    own = owner.keys.create(name="console", roles=["tenant-admin"], tenant=tenant["id"])
    save(Credentials(server.url, own["secret"]), home=home / KEYS / name)
    stage.facts({
        "workspace": f"{workspace['id']}  {workspace['path']}",
        "service account": f"{account['id']}  analyst",
        "its key": f"{key['id']}  operator  {key['secret'].rpartition('_')[0].rpartition('_')[0]}_…",
    })  # fmt: skip
    operator = Client(url=server.url, key=key["secret"])
    return Party(name, slug, region, tenant["id"], workspace["id"], owner, operator)


def work(stage: Stage, cast: Cast) -> None:
    """Acme adds up its orders with Python, globex counts the lines of its log with a pipeline."""
    stage.scene("Work on real input: acme's orders, globex's access log")
    stage.tell("acme: python3 summarise.py over orders.csv; its log as it comes:")
    job, seen = cast.acme.watch(stage, _ADD_UP)
    stage.expect("acme's job succeeded", held=job["status"] == "succeeded", seen=f"{job['status']} {job['reason']}")
    early = seen.ended_at - seen.at[0] if seen.at else 0.0
    stage.expect("its first line came while it ran", held=early > 0.5, seen=f"{early:.1f} s before its end")  # noqa: PLR2004 - six rests of 0.15 s lie between
    _summary(stage, cast.acme, job["id"])
    stage.tell("globex: awk | sort | uniq -c | sort -rn | head over access.log:")
    job, seen = cast.globex.watch(stage, _COUNT)
    paths = Counter(line.split()[6] for line in shipped("access.log").decode().splitlines())
    counted = {int(line.split()[0]) for line in seen.text.splitlines()}
    right = counted == {count for _, count in paths.most_common(4)}
    stage.expect("globex's job succeeded, and counted right", held=job["status"] == "succeeded" and right)


def _summary(stage: Stage, party: Party, job: str) -> None:
    (artifact,) = party.operator.jobs.artifacts(party.workspace, job)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "summary.csv"
        party.operator.jobs.download(party.workspace, job, artifact["id"], to=file, sha256=artifact["sha256"])
        rows = list(csv.reader(file.read_text().splitlines()))
    stage.tell(f"the artifact {artifact['path']} ({artifact['size_bytes']} bytes, its SHA-256 checked):")
    stage.table(party.name, rows)
    orders = csv.DictReader(shipped("orders.csv").decode().splitlines())
    turnover = sum((int(row["quantity"]) * Decimal(row["unit_price"]) for row in orders), Decimal(0))
    stage.expect(
        "its total is that of the orders", held=sum((Decimal(row[3]) for row in rows[1:]), Decimal(0)) == turnover
    )


def refusals(stage: Stage, cast: Cast) -> None:
    """Ask the API for what is another's, or not allowed."""
    stage.scene("The API: another tenant's things are absent, and every refusal says what would allow it")
    acme, globex = cast.acme, cast.globex
    job = globex.start(Work(command=("true",)), wait_seconds=30)
    absent = format_id(Prefix.WORKSPACE, new_id())

    def refused(what: str, attempt: Callable[[], object], status: int, code: str) -> None:
        stage.expect_refusal(what, refusal_of(attempt), status=status, code=code)

    refused("acme reads globex's workspace", lambda: acme.operator.workspaces.get(globex.workspace), 404, "not_found")
    refused("acme reads globex's job", lambda: acme.owner.jobs.get(globex.workspace, job["id"]), 404, "not_found")
    foreign = refusal_of(lambda: acme.owner.workspaces.get(globex.workspace))
    missing = refusal_of(lambda: acme.owner.workspaces.get(absent))
    same = (
        foreign is not None and missing is not None and (foreign.status, str(foreign)) == (missing.status, str(missing))
    )
    stage.expect("a workspace that never was is answered in the same words", held=same, seen=foreign)
    refused("acme names globex as the tenant", lambda: acme.owner.tenants.get(globex.slug), 403, "tenant_mismatch")
    refused(
        "the platform's key reads acme's workspaces",
        lambda: list(cast.platform.workspaces.list(tenant=acme.slug)), 403, "platform_no_content",
    )  # fmt: skip
    with Client(url=cast.server.url, key=_forged(acme)) as forger:
        refused("a forged key of acme, its checksum right", forger.me, 401, "credential_refused")
    _viewer(stage, cast)


def _forged(party: Party) -> str:
    """Make a key that looks right: scope of the workspace, checksum, but a secret nobody issued."""
    scope = parse_id(Prefix.WORKSPACE, party.workspace)
    return make_credential(region=party.region, kind=ScopeKind.WORKSPACE, scope_id=scope).text


def _viewer(stage: Stage, cast: Cast) -> None:
    acme = cast.acme
    key = acme.owner.keys.create(name="look", roles=["viewer"], workspace=acme.workspace)
    with Client(url=cast.server.url, key=key["secret"]) as viewer:
        error = refusal_of(lambda: viewer.jobs.create(acme.workspace, command=["true"]))
        stage.expect_refusal("a viewer of acme starts a job", error, status=403, code="permission_missing")
        why = viewer.explain(permission="job:create", workspace=acme.workspace)
    stage.expect(
        f"explain says the same without doing it: any of the roles {', '.join(why['allow_with'])} would allow it",
        held=why["decision"] == "deny" and "operator" in why["allow_with"],
    )


def trails(stage: Stage, cast: Cast) -> None:
    """Show what each tenant's trail says of all this."""
    stage.scene("The audit trail of each tenant, refusals included, newest first")
    for party in (cast.acme, cast.globex):
        events = list(party.owner.audit.query())
        stage.tell(f"{party.slug}: {len(events)} events; refused or done to it:")
        told = [event for event in events if event["outcome"] == "denied" or event["action"].startswith("tenant.")]
        stage.table(party.name, [_row(event) for event in told[:8]])
        stage.expect(f"all of them are {party.slug}'s own", held=all(event["tenant"] == party.id for event in events))
    reasons = {event["reason"] for event in cast.acme.owner.audit.query(outcome="denied")}
    expected = {"not_found", "tenant_mismatch", "permission_missing"}
    stage.expect(
        "acme's tells of its refusals above", held=expected <= reasons, seen=", ".join(sorted(expected & reasons))
    )
    if cast.acme.region != cast.globex.region:
        blocked = list(cast.acme.owner.audit.query(action="region.blocked"))
        where = {event["details"].get("region") for event in blocked}
        stage.expect(
            f"and of its reach into {cast.globex.region}", held=where == {cast.globex.region}, seen="region.blocked"
        )
    done = {event["action"] for event in cast.globex.owner.audit.query(action="tenant.")}
    stage.expect("globex's tells who suspended and resumed it", held={"tenant.suspended", "tenant.resumed"} <= done)


def _row(event: AuditEvent) -> list[str]:
    at = datetime.fromisoformat(event["occurred_at"]).astimezone(UTC)
    return [
        f"{at:%H:%M:%S}",
        event["actor"]["id"],
        event["action"],
        event["outcome"],
        event["reason"] or "",
        event["resource"]["id"],
    ]
