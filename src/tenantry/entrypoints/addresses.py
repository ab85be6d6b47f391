"""Where each part of the installation is, and as whom to speak to it."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.errors import Fault
from tenantry.foundation.secrets import Secrets
from tenantry.foundation.settings import Settings

DIRECTORY_DATABASE = "tenantry_directory"


@dataclass(frozen=True, slots=True)
class CellAddresses:
    """Data source names of one cell's roles; they hold passwords."""

    app: str = field(repr=False)
    dispatcher: str = field(repr=False)
    sealer: str = field(repr=False)
    owner: str | None = field(repr=False)
    mover: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Addresses:
    directory: str = field(repr=False)
    directory_owner: str | None = field(repr=False)
    cells: dict[str, CellAddresses] = field(repr=False)


def addresses_of(settings: Settings, secrets: Secrets) -> Addresses:
    """Tell the addresses, from the settings or from the embedded server of the home (which need not run)."""
    if settings.embedded:
        return _embedded(settings, secrets)
    directory = settings.database.directory_url
    if directory is None:
        raise Fault("directory_missing", "database.directory_url is not set", layer="settings")
    owner = settings.database.directory_owner_url
    return Addresses(
        directory=directory.get_secret_value(),
        directory_owner=owner.get_secret_value() if owner else None,
        cells={
            name: CellAddresses(
                app=region.app_url.get_secret_value(),
                dispatcher=region.dispatcher_url.get_secret_value(),
                sealer=region.sealer_url.get_secret_value(),
                owner=region.owner_url.get_secret_value() if region.owner_url else None,
                mover=region.mover_url.get_secret_value() if region.mover_url else None,
            )
            for name, region in settings.regions.items()
        },
    )


def provisioner_of(settings: Settings, region: str) -> str | None:
    """Tell as whom to make databases in a region, None where this process may not."""
    if settings.embedded:
        superuser = EmbeddedPostgres(settings.home).superuser
        return embedded_dsn(settings.home, user=superuser.user, password=superuser.password, database="postgres")
    configured = settings.regions[region].provisioner_url
    return configured.get_secret_value() if configured else None


def embedded_dsn(home: Path, *, user: str, password: str, database: str) -> str:
    parts = EmbeddedPostgres(home).dsn(user=user, password=password, database=database)
    return (
        f"postgresql://{quote(parts.user)}:{quote(parts.password, safe='')}@/{parts.database}"
        f"?host={quote(parts.host, safe='')}&port={parts.port}"
    )


def _embedded(settings: Settings, secrets: Secrets) -> Addresses:
    def dsn(role: str, database: str) -> str:
        return embedded_dsn(settings.home, user=role, password=secrets.passwords[role], database=database)

    return Addresses(
        directory=dsn("tenantry_directory", DIRECTORY_DATABASE),
        directory_owner=dsn("tenantry_owner", DIRECTORY_DATABASE),
        cells={
            region: CellAddresses(
                app=dsn("tenantry_app", cell_database(region)),
                dispatcher=dsn("tenantry_dispatcher", cell_database(region)),
                sealer=dsn("tenantry_sealer", cell_database(region)),
                owner=dsn("tenantry_owner", cell_database(region)),
                mover=dsn("tenantry_mover", cell_database(region)),
            )
            for region in settings.region_names
        },
    )


def cell_database(region: str) -> str:
    return f"tenantry_{region.replace('-', '_')}"
