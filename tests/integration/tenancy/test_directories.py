"""Where the files of workspaces lie: below their paths, apart from each other, wherever their tenant goes."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.integration.tenancy.ground import home_of, members_of, until

Json = dict[str, Any]
PATHS = ("personal/ada", "teams/shop", "teams/shop/prod", "agents/s-1")
# What a job may call its files; a folder below the workspace's own is never named by any of it.
NAMES = ("plain", "..,", "a b", "\u00e9\u4e2d", "-rf", "x" * 200, "$(reboot)", "jobs", "_ws")


@dataclass(frozen=True)
class Kept:
    """A workspace with a job that left something."""

    workspace: str
    path: str
    job: str


def keep(tenant: Tenant, path: str, *names: str) -> Kept:
    made = tenant.owner.post("/workspaces", json={"name": "w", "path": path, "settings": {"persistence_mode": "full"}})
    assert made.status_code == 201, made.text
    return leave(tenant, made.json()["id"], path, *names)


def leave(tenant: Tenant, workspace: str, path: str, *names: str) -> Kept:
    command = ["sh", "-c", 'for name; do printf "of %s" "$name" > "/outputs/$name"; done', "-", *names]
    job = tenant.owner.post(
        f"/workspaces/{workspace}/jobs", params={"wait": 60}, json={"command": command, "artifacts": ["outputs/*"]}
    ).json()
    assert job["status"] == "succeeded", job
    return Kept(workspace, path, job["id"])


def contents(tenant: Tenant, kept: Kept) -> dict[str, str]:
    base = f"/workspaces/{kept.workspace}/jobs/{kept.job}/artifacts"
    items = tenant.owner.get(base, params={"limit": 200}).json()["items"]
    return {each["path"]: tenant.owner.get(f"{base}/{each['id']}/content").text for each in items}


def place_of(kept: Kept) -> str:
    return f"objects/workspaces/{kept.path}/_{kept.workspace.removeprefix('ws_')}"


def walk(folder: Path) -> tuple[dict[str, os.stat_result], dict[str, os.stat_result]]:
    """Give everything really there: folders, and what is none, by path; no link is followed."""
    folders: dict[str, os.stat_result] = {}
    files: dict[str, os.stat_result] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        (folders if stat.S_ISDIR(status.st_mode) else files)[str(path.relative_to(folder))] = status
    return folders, files


def assert_in_their_places(folder: Path, kept: list[Kept], *, artifacts: int) -> list[str]:
    """Each file below the place of exactly one workspace, its own; nothing else, and nobody else's to read."""
    folders, files = walk(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(status.st_mode) for status in folders.values()} == {0o700}
    assert all(stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600 for status in files.values())
    places = {place_of(each) + "/": each for each in kept}
    assert len(places) == len(kept)
    for file in files:
        owners = [each for place, each in places.items() if file.startswith(place)]
        assert len(owners) == 1, file
        assert file.startswith(f"{place_of(owners[0])}/jobs/"), file
    assert len(files) == artifacts
    return sorted(files)


def test_everything_a_workspace_keeps_lies_below_its_path(installation: Installation, make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    kept = [keep(tenant, path, *NAMES) for path in PATHS]
    folder = home_of(installation, "us", tenant.id)
    files = assert_in_their_places(folder, kept, artifacts=len(PATHS) * len(NAMES))
    for each in kept:
        assert contents(tenant, each) == {f"outputs/{name}": f"of {name}" for name in NAMES}
    # No name a job has chosen is a name on the disk.
    assert not [file for file in files if any(name in file.split("/")[-1] for name in NAMES)]
    assert not home_of(installation, "eu", tenant.id).exists()
    assert stat.S_IMODE(folder.parent.stat().st_mode) & 0o066 == 0


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "teams", "teams/", "/teams/a", "teams//a", "teams/a/", "teams/a/b/c", "objects/a", "../teams/a"),
        *("teams/..", "teams/../a", "teams/a/..", "teams/./a", "teams/a/.", "teams/a\\b", "teams/a\n", "teams/a\x00"),
        *("teams/_a", "teams/a/_01h455vb4pex5vsknk084sn02q", "teams/A", "teams/a,", "teams/\uff41"),
        "teams/" + "a" * 200,
    ],
)
def test_a_path_that_could_lead_elsewhere_is_no_path(make_tenant: MakeTenant, path: str) -> None:
    answer = make_tenant(plan="free").owner.post("/workspaces", json={"name": "w", "path": path})
    assert answer.status_code in (400, 422), answer.text


def test_who_takes_a_path_that_was_left_gets_nothing_of_who_left_it(
    installation: Installation, make_tenant: MakeTenant
) -> None:
    tenant = make_tenant()
    first = keep(tenant, "teams/shop/prod", "mine")
    assert tenant.owner.delete(f"/workspaces/{first.workspace}").status_code == 200
    heir = keep(tenant, "teams/shop/prod", "mine", "more")
    assert place_of(first) != place_of(heir)
    assert_in_their_places(home_of(installation, "us", tenant.id), [first, heir], artifacts=3)
    assert contents(tenant, first) == {"outputs/mine": "of mine"}
    assert contents(tenant, heir) == {"outputs/mine": "of mine", "outputs/more": "of more"}
    refused = tenant.owner.post(f"/workspaces/{first.workspace}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "path_taken")


def test_a_workspace_that_moves_on_leaves_what_it_made_and_makes_the_rest_at_its_new_path(
    installation: Installation, make_tenant: MakeTenant
) -> None:
    tenant = make_tenant()
    before = keep(tenant, "teams/old", "a")
    answer = tenant.owner.patch(f"/workspaces/{before.workspace}", json={"path": "teams/new"})
    assert answer.status_code == 200, answer.text
    after = leave(tenant, before.workspace, "teams/new", "b")
    assert_in_their_places(home_of(installation, "us", tenant.id), [before, after], artifacts=2)
    assert (contents(tenant, before), contents(tenant, after)) == ({"outputs/a": "of a"}, {"outputs/b": "of b"})


def test_files_keep_their_places_in_a_move_and_in_an_export_and_go_with_their_tenant(leaving: Installation) -> None:
    platform = leaving.platform
    owner = {"email": "o@x.example", "name": "Owner"}
    body = {"name": "Acme", "slug": "files", "plan": "enterprise", "region": "us", "owner": owner}
    made = platform.post("/tenants", json=body).json()
    tenant = Tenant(leaving, made["id"], made["slug"], "us", made["bootstrap_key"]["secret"])
    kept = [keep(tenant, path, "a", "b") for path in PATHS]
    here, there = (home_of(leaving, region, tenant.id) for region in ("us", "eu"))
    files = assert_in_their_places(here, kept, artifacts=8)

    path = f"/tenants/{tenant.id}"
    export = tenant.owner.post(f"{path}/export").json()["id"]
    assert until(lambda: tenant.owner.get(f"{path}/operations/{export}").json()["status"] == "succeeded")
    archive = members_of(tenant.owner.get(f"{path}/exports/{export}/content").content)
    assert {name for name in archive if name.startswith("objects/")} == {file.removesuffix(",") for file in files}

    move = platform.post(f"{path}/move", json={"region": "eu", "grace_seconds": 0}).json()["id"]
    assert tenant.owner.post(f"{path}/operations/{move}/confirm").status_code == 200
    assert until(lambda: platform.get(f"{path}/operations/{move}").json()["status"] == "succeeded")
    assert not here.exists()
    assert {file for file in walk(there)[1] if "/exports/" not in file} == set(files)
    assert contents(tenant, kept[0]) == {"outputs/a": "of a", "outputs/b": "of b"}

    assert platform.delete(path).status_code == 200
    assert until(lambda: platform.get(f"{path}/certificate").status_code == 200)
    assert not here.exists()
    assert not there.exists()
