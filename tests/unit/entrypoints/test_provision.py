"""What a region offers follows from the credentials that a process holds for it."""

from pathlib import Path

import pytest

from tenantry.capabilities.tenants.types import Isolation
from tenantry.entrypoints.addresses import addresses_of
from tenantry.entrypoints.provision import PlaceMaker
from tenantry.foundation.database.places import SHARED
from tenantry.foundation.errors import Fault
from tenantry.foundation.secrets import load_secrets
from tenantry.foundation.settings import load_settings

_URL = "postgresql://somebody@db.example/tenantry_eu"
_NEEDED = "".join(f'{role}_url = "{_URL}"\n' for role in ("app", "dispatcher", "sealer"))


def maker(home: Path, *more: str) -> PlaceMaker:
    urls = "".join(f'{role}_url = "{_URL}"\n' for role in more)
    text = f'[database]\ndirectory_url = "{_URL}"\n[regions.eu]\n{_NEEDED}{urls}'
    (home / "tenantry.toml").write_text(text)
    settings = load_settings(home=home)
    return PlaceMaker(addresses_of(settings, load_secrets(home, create=True)), settings)


@pytest.mark.parametrize(
    ("more", "offered"),
    [
        ((), {Isolation.ROW_LEVEL}),
        (("owner",), {Isolation.ROW_LEVEL}),
        (("mover", "provisioner"), {Isolation.ROW_LEVEL}),
        (("owner", "mover"), {Isolation.ROW_LEVEL, Isolation.SCHEMA_LEVEL}),
        (("owner", "mover", "provisioner"), set(Isolation)),
    ],
)
def test_a_region_offers_what_this_process_could_make_and_move(
    tmp_path: Path, more: tuple[str, ...], offered: set[Isolation]
) -> None:
    assert maker(tmp_path, *more).offers("eu") == offered


async def test_the_shared_place_is_never_removed(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="shared"):
        await maker(tmp_path, "owner", "mover").remove(region="eu", place=SHARED)


async def test_without_the_owner_nothing_is_removed(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="may not remove"):
        await maker(tmp_path).remove(region="eu", place="t_" + "0" * 32)
