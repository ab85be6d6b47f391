"""Every setting, one frozen tree. Sources, first wins: environment `TENANTRY_…` (nested by `__`), then `tenantry.toml`
of the home, then the defaults here. Built once in `entrypoints` and handed down; nothing below reads the environment.

With no region configured the installation is *embedded*: PostgreSQL, objects, caches and keys live in the home and
serve the regions `us` and `eu`. With regions configured nothing is embedded and each needs its own addresses.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, IPvAnyNetwork, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from tenantry.foundation.audit_settings import AuditSettings
from tenantry.foundation.errors import Invalid
from tenantry.foundation.evidence_settings import EvidenceSettings
from tenantry.foundation.image_settings import ImageSettings
from tenantry.foundation.limit_settings import Frozen, LimitSettings
from tenantry.foundation.link_settings import WorkerLinkSettings
from tenantry.foundation.notification_settings import NotificationSettings
from tenantry.foundation.sandbox_settings import SandboxSettings

EMBEDDED_REGIONS: Final = ("us", "eu")
_REGION: Final = "^[a-z][a-z0-9-]{1,15}$"
_ROOT_HOME: Final = Path("/var/lib/tenantry")


def default_home() -> Path:
    """`/var/lib/tenantry` for root, `~/.tenantry` for anybody else."""
    return _ROOT_HOME if os.geteuid() == 0 else Path.home() / ".tenantry"


def _domain(name: str | None) -> str | None:
    """Write a domain as hosts are compared: one that could never match would switch the check off unseen."""
    if name is None:
        return None
    plain = name.lower().strip(".")
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", plain):
        raise ValueError("a domain name, as tenants.example.com, without port or scheme")
    return plain


def _origin(url: str | None) -> str | None:
    """Accept an origin alone: what is put behind it must not depend on how it was written."""
    if url is None or re.fullmatch(
        r"https://[a-z0-9.-]+(:\d{1,5})?|http://(127\.0\.0\.1|localhost|\[::1\]):\d{1,5}", url
    ):
        return url
    raise ValueError("https://host[:port] without a path; http on loopback alone")


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


class ServerSettings(Frozen):
    """The HTTP server."""

    host: str = "127.0.0.1"
    """Address to listen on; on anything but loopback only with TLS, its own or a proxy's."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 takes a free one and prints it."""
    public_url: Annotated[str | None, AfterValidator(_origin)] = None
    """How browsers reach it, `https://tenantry.example.com`: where logins come back to. None: loopback only."""
    base_domain: Annotated[str | None, AfterValidator(_domain)] = None
    """With `tenants.example.com`, `acme.tenants.example.com` names the tenant `acme`; none: Host names no tenant."""
    tls_certificate: Path | None = None
    """PEM file with the server's certificate and what leads up to its root; with it the server speaks HTTPS alone."""
    tls_key: Path | None = None
    """PEM file with the key of that certificate, without a password."""
    client_ca: Path | None = None
    """PEM file with the roots whose client certificates are taken; a client that shows another's is not let in."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of proxies whose `Client-Cert`, `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    """Largest JSON body; larger ones are 413."""
    max_upload_bytes: int = Field(default=2 << 30, ge=1024)
    """Largest streamed upload (an image archive)."""
    max_streams_per_tenant: int = Field(default=200, ge=1)
    """WebSockets, and streams in and out of sandboxes, that one server process holds open for one tenant."""
    stream_idle_seconds: int = Field(default=3600, ge=1)
    """When a WebSocket is ended over which nothing has come either way."""
    upload_idle_seconds: int = Field(default=60, ge=1)
    """When an upload is ended of which nothing has come; one that is slow may go on."""

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.client_ca is not None and self.tls_certificate is None:
            raise ValueError("client_ca needs tls_certificate and tls_key: without TLS no client shows a certificate")
        return self

    @property
    def scheme(self) -> str:
        return "http" if self.tls_certificate is None else "https"


class DatabaseSettings(Frozen):
    """The directory and the pools."""

    directory_url: SecretStr | None = None
    """`postgresql://tenantry_directory:…@host/tenantry_directory`; required when regions are configured."""
    directory_owner_url: SecretStr | None = None
    """The directory as its owner, for migrations."""
    pool_size: int = Field(default=10, ge=2, le=200)
    """Connections of one server process to one cell; a fifth is kept for reads that an open transaction waits for."""


class BucketSettings(Frozen):
    """An S3-compatible bucket of one region. Without keys the machine's own identity is used."""

    name: str
    region: str | None = None
    prefix: str = ""
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None


class RegionSettings(Frozen):
    """One cell: its own database, key-value store and objects."""

    app_url: SecretStr
    """As `tenantry_app`: a direct address (LISTEN does not pass a transaction pooler)."""
    dispatcher_url: SecretStr
    """As `tenantry_dispatcher`."""
    sealer_url: SecretStr
    """As `tenantry_sealer`."""
    owner_url: SecretStr | None = None
    """As `tenantry_owner`, for migrations and schemas of tenants' own; leave out where the process may not migrate."""
    mover_url: SecretStr | None = None
    """As `tenantry_mover`, for moves, exports and erasures; leave out where the process does none."""
    provisioner_url: SecretStr | None = None
    """As a superuser, to make databases of tenants' own; none: `database_level` is not offered in this region."""
    bucket: BucketSettings | None = None
    """S3-compatible bucket; none: a directory in the home."""
    redis_url: SecretStr | None = None
    """Redis or Valkey, by `redis://`, `rediss://` or `unix://`; none: plain Python, for exactly one server process."""


class CacheSettings(Frozen):
    """What the key-value store of a region keeps, and how long."""

    etag_ttl_ms: int = Field(default=60_000, ge=1, le=86_400_000)
    """How long the store vouches for a version, and stays closed after a writer that died in its commit."""
    replay_window_ms: int = Field(default=300_000, ge=1, le=3_600_000)
    """How old a signed call may be, and how long its nonce is known; ahead: its tenant's `clock_skew_ms`."""


class AccessSettings(Frozen):
    """Grants for a bounded time, and the decisions they wait for."""

    max_grant_minutes: int = Field(default=480, ge=1, le=366 * 24 * 60)
    """How long a grant may last, its extensions included; a workspace can only set less."""
    grant_quorum: int = Field(default=1, ge=1, le=20)
    """How many must approve a grant; a workspace can only ask for more."""
    approval_hours: int = Field(default=24, ge=1, le=24 * 90)
    """How long a request for a grant waits for its approval."""
    escalate_after_minutes: int = Field(default=240, ge=0)
    """When an approval that nobody has settled is told again, as `approval.escalated`; 0: never."""
    expiry_notice_minutes: int = Field(default=5, ge=0)
    """How long before its end a grant is told to end, as `grant.expiring`; 0: never."""
    people_only: bool = False
    """Whether only users decide on approvals, and no service account."""


class JobSettings(Frozen):
    """Jobs and the workers that run them."""

    slots: int = Field(default=8, ge=1, le=1000)
    """Jobs that one worker runs at once."""
    lease_seconds: float = Field(default=15.0, ge=2.0, le=600.0)
    """How long a claim holds without renewal; after it the job counts as lost."""
    content_grace_seconds: int = Field(default=900, ge=0)
    """How long logs, artifacts and inputs stay after the end of a job in mode `metadata_only`."""
    retention_days: int = Field(default=30, ge=1)
    """How long they stay in mode `full`."""
    min_isolation: str = Field(default="cgroup", pattern="^(rlimit|cgroup|gvisor)$")
    """A sandbox has at least this: `cgroup` bounds memory, pids and cpu, `rlimit` not; `gvisor` adds its own kernel."""
    labels: tuple[str, ...] = ()
    """What this worker serves besides unlabelled jobs."""
    egress_networks: tuple[IPvAnyNetwork, ...] = ()
    """Private networks that jobs may reach where their policies allow it, `["10.20.0.0/16"]`; public ones need none."""
    egress_connections: int = Field(default=64, ge=1, le=10_000)
    """Connections that one job has open at once."""
    egress_ca_file: Path | None = None
    """By whose certificates servers are known that secrets are injected for (PEM); unset: this machine's own."""
    egress_mib: int = Field(default=10_240, ge=1, le=1 << 24)
    """What one job may send, and what it may receive, through the egress gateway."""


class IdentitySettings(Frozen):
    """What programs prove themselves by, and logins of people by OpenID Connect."""

    allow_private_issuers: bool = False
    """Let providers lie on this machine or in private networks, on loopback also by http: for tests and laptops."""
    web_login_hours: int = Field(default=12, ge=1, le=168)
    """How long a login of the console holds."""
    refresh_days: int = Field(default=7, ge=7, le=30)
    """How long a refresh token waits for its use; a program's login as a whole holds 30 days at most."""
    key_days: int = Field(default=90, ge=1, le=3660)
    """How long an API key or signing key holds that names no end of its own."""
    max_key_days: int = Field(default=366, ge=1, le=3660)
    """How far ahead that end may lie."""

    @model_validator(mode="after")
    def _default_within_the_most(self) -> Self:
        if self.key_days > self.max_key_days:
            raise ValueError("key_days is more than max_key_days")
        return self


class TenancySettings(Frozen):
    """What is kept of tenants that leave, and how long."""

    retention_days: int = Field(default=30, ge=0, le=3650)
    """How long a deleted tenant can be restored; then it is erased. 0: it is erased at once."""
    export_days: int = Field(default=7, ge=1, le=365)
    """How long an export lies ready to be fetched."""
    drain_seconds: int = Field(default=900, ge=1, le=7 * 86400)
    """How long a move waits for jobs to end and for writes under way; then it has failed, and the tenant stays."""


def _region_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not re.fullmatch(_REGION, name):
            raise ValueError(f"{name!r} is not the name of a region: it must match {_REGION}")
    return names


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="TENANTRY_", env_nested_delimiter="__", case_sensitive=False
    )

    home: Annotated[Path, AfterValidator(_absolute)] = Field(default_factory=default_home)
    """Where state lives."""
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    regions: dict[Annotated[str, Field(pattern=_REGION)], RegionSettings] = {}
    """Cells that this process serves, and the only ones whose credentials it holds; none means embedded."""
    known_regions: Annotated[tuple[str, ...], AfterValidator(_region_names)] = ()
    """Further regions of the installation, served elsewhere: what is asked for there is 421, in any other 422."""
    serve_regions: tuple[str, ...] = ()
    """Embedded only: of `us` and `eu` those that are served; empty: both."""
    caches: CacheSettings = CacheSettings()
    access: AccessSettings = AccessSettings()
    limits: LimitSettings = LimitSettings()
    jobs: JobSettings = JobSettings()
    sandboxes: SandboxSettings = SandboxSettings()
    worker_link: WorkerLinkSettings = WorkerLinkSettings()
    images: ImageSettings = ImageSettings()
    audit: AuditSettings = AuditSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    identity: IdentitySettings = IdentitySettings()
    tenants: TenancySettings = TenancySettings()
    notifications: NotificationSettings = NotificationSettings()
    plans_file: Path | None = None
    """The operator's plan catalogue; none: the one shipped."""
    slos_file: Path | None = None
    """The operator's catalogue of SLOs; none: the one shipped."""
    labels_file: Path | None = None
    """The operator's catalogue of labels; none: the one shipped."""
    policies_dir: Path | None = None
    """`{image,command,network,deployment}-policy.yaml`, `rules.yaml` for all tenants; none: `policies` in the home."""
    tenants_dir: Path | None = None
    """Where declared tenants lie, one YAML file each; none: `tenants` in the home."""
    tenants_reload_seconds: float = Field(default=5.0, ge=0.0, le=3600.0)
    """How often that directory is looked at; a change counts at the second look. 0: only at SIGHUP and on command."""
    declared_tenants: str = Field(default="check", pattern="^(check|apply)$")
    """`check` loads and warns, `tenantry tenant apply` shows a diff and changes; `apply` lets the server change."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    @model_validator(mode="after")
    def _regions_need_a_directory(self) -> Self:
        if self.regions and self.database.directory_url is None:
            raise ValueError("database.directory_url is required when regions are configured")
        if self.regions and self.serve_regions:
            raise ValueError("serve_regions is for embedded installations: leave the other regions out of regions")
        if strange := sorted(set(self.serve_regions) - set(EMBEDDED_REGIONS)):
            raise ValueError(f"serve_regions: {strange[0]} is not one of {', '.join(EMBEDDED_REGIONS)}")
        return self

    @property
    def embedded(self) -> bool:
        return not self.regions

    @property
    def region_names(self) -> tuple[str, ...]:
        """The regions that this process serves."""
        return tuple(self.regions) or tuple(dict.fromkeys(self.serve_regions)) or EMBEDDED_REGIONS

    @property
    def known_region_names(self) -> tuple[str, ...]:
        """The regions of the installation: those served here first, then those served elsewhere."""
        elsewhere = self.known_regions + (EMBEDDED_REGIONS if self.embedded else ())
        return tuple(dict.fromkeys(self.region_names + elsewhere))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)


def load_settings(*, home: Path | None = None, port: int | None = None) -> Settings:
    """Read the settings; raises Invalid `settings_invalid` that lists every fault with its key and rule."""
    folder = _absolute(home or Path(os.environ.get("TENANTRY_HOME") or default_home()))
    file = folder / "tenantry.toml"
    try:
        values = tomllib.loads(file.read_text()) if file.is_file() else {}
    except (OSError, ValueError) as error:  # not TOML, or not even text
        fault = f"{file}: {error}"
        raise Invalid("settings_invalid", fault, layer="settings", faults=[fault]) from error
    # TENANTRY_URL, _KEY and _WORKSPACE belong to the client; pydantic ignores what names no field.
    values["home"] = folder
    try:
        settings = Settings(**values)
    except ValidationError as error:
        faults = [f"{'.'.join(str(p) for p in e['loc']) or 'settings'}: {e['msg']}" for e in error.errors()]
        raise Invalid("settings_invalid", "; ".join(faults), layer="settings", faults=faults) from None
    except SettingsError as error:  # a variable that should hold JSON and does not: `TENANTRY_SERVER=8000`
        raise Invalid("settings_invalid", str(error), layer="settings", faults=[str(error)]) from None
    if home is not None:
        settings = settings.model_copy(update={"home": folder})
    if port is not None:
        settings = settings.model_copy(update={"server": settings.server.model_copy(update={"port": port})})
    return settings


def plain_settings(home: Path, *, port: int | None = None) -> Settings:
    """Make settings of defaults alone, whatever file and environment say: to look further when those are faulty."""
    server = ServerSettings() if port is None else ServerSettings(port=port)
    return Settings.model_construct(home=_absolute(home), server=server)
