"""An installation whose deleted tenants are erased at once, and tenants with one of everything."""

from collections.abc import Iterator

import pytest
from tests.conftest import Installation, running_installation
from tests.integration.tenancy.ground import Exported, Inhabited, MakeInhabited, export, inhabit


@pytest.fixture(scope="package")
def leaving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all tests of this folder that erase."""
    home = tmp_path_factory.mktemp("leaving") / "home"
    with running_installation(home, TENANTRY_TENANTS__RETENTION_DAYS="0") as started:
        yield started


@pytest.fixture(scope="package")
def make_inhabited(leaving: Installation) -> MakeInhabited:
    """Make tenants with a canary in every text."""

    def make(**fields: str) -> Inhabited:
        return inhabit(leaving, **fields)

    return make


@pytest.fixture(scope="package")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Another installation, with secrets and keys of its own."""
    home = tmp_path_factory.mktemp("elsewhere") / "home"
    with running_installation(home) as started:
        yield started


@pytest.fixture(scope="package")
def exported(make_inhabited: MakeInhabited) -> Exported:
    """A tenant and its archive, made once and changed by nobody."""
    return export(make_inhabited())
