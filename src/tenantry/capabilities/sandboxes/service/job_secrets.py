"""The secrets of a job: pinned when it is accepted, opened by the attempt that begins it, kept nowhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.sandboxes.errors import (
    injection_header_invalid,
    injection_host_invalid,
    injection_unconnected,
    secret_not_injectable,
    secret_place_taken,
)
from tenantry.capabilities.sandboxes.types import Injected, Job, JobSecret, NewJob
from tenantry.capabilities.secrets.service import find_reference, open_secrets
from tenantry.engines.egress import PORT, Injection, is_injectable, is_injectable_header
from tenantry.engines.envelope.keyring import Keyring
from tenantry.engines.jail.types import InputFile
from tenantry.engines.rules.types import Connection, Phase
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import TenantScope
from tenantry.kit.hosts import Host, NoHostError, parse_host

_PLACEHOLDER_BYTES: Final = 20


@dataclass(frozen=True, slots=True)
class OpenedSecrets:
    """What one sandbox is given; `values` is to be masked."""

    environment: dict[str, str] = field(default_factory=dict, repr=False)
    files: tuple[InputFile, ...] = field(default=(), repr=False)
    values: tuple[str, ...] = field(default=(), repr=False)
    placeholders: dict[str, str] = field(default_factory=dict)
    """Variables that hold what stands for a value, of no use but to the gateway of this very attempt."""
    injections: tuple[Injection, ...] = ()


class SecretOpener:
    """Opens secrets for the attempts of one worker."""

    def __init__(self, *, cell: Cell, keyring: Keyring, clock: Clock) -> None:
        self._cell = cell
        self._keyring = keyring
        self._clock = clock

    async def open(self, job: Job, scope: TenantScope) -> Mapping[Phase, OpenedSecrets]:
        """Open what the job was promised, by phase; the use is recorded, and committed, before anything is given.

        Raises what `secrets.open_secrets` raises, Denied where the tenant is closed, Invalid `secret_not_injectable`.
        A retry is safe.
        """
        if not job.secrets:
            return {}
        keyset = await self._keyring.keyset(scope.tenant_id)
        async with self._cell.session(scope) as session:
            values = await open_secrets(
                session,
                [each.secret for each in job.secrets],
                workspace_id=job.workspace_id,
                keyset=keyset,
                audit=AuditService(session=session, clock=self._clock),
                used_by=format_id(Prefix.JOB, job.job_id),
            )
        pairs = list(zip(job.secrets, values, strict=True))
        phases = {each.phase for each in job.secrets}
        return {phase: _opened([(each, value) for each, value in pairs if each.phase is phase]) for phase in phases}


def _opened(every: Sequence[tuple[JobSecret, str]]) -> OpenedSecrets:
    pairs = [(given, value) for given, value in every if given.inject is None]
    injections = {given.env: _injection(given, given.inject, value) for given, value in every if given.inject}
    return OpenedSecrets(
        placeholders={env: made.placeholder for env, made in injections.items() if env is not None},
        injections=tuple(injections.values()),
        environment={given.env: value for given, value in pairs if given.env is not None},
        files=tuple(InputFile(given.file, value.encode()) for given, value in pairs if given.file is not None),
        values=tuple(value for _, value in every),
    )


def values_of(opened: Mapping[Phase, OpenedSecrets]) -> tuple[str, ...]:
    """List all values, the shortest first: those are tokens, the long ones files."""
    return tuple(sorted((value for each in opened.values() for value in each.values), key=len))


def _injection(given: JobSecret, into: Injected, value: str) -> Injection:
    if not is_injectable(value):
        raise secret_not_injectable(given.secret.name, given.secret.version)
    return Injection(
        name=given.secret.name,
        host=parse_host(into.host),
        placeholder=f"tnt-placeholder-{token_hex(_PLACEHOLDER_BYTES)}",
        value=value,
        header=into.header,
    )


async def pin_secrets(session: TenantSession, new: NewJob, *, workspace_id: UUID) -> tuple[JobSecret, ...]:
    """Say which versions each program of a job will be given.

    Raises Invalid `secret_unknown`, `secret_place_taken`, `injection_host_invalid`, `injection_header_invalid`,
    `injection_unconnected`.
    """
    pinned = []
    for wanted in new.secrets:
        reference = await find_reference(session, wanted.name, version=wanted.version, workspace_id=workspace_id)
        env = wanted.name if wanted.env is None and wanted.file is None else wanted.env
        network = [asked for asked in new.network if asked.phase is wanted.phase]
        inject = None if wanted.inject is None else _place_of(wanted.name, wanted.inject, network)
        pinned.append(JobSecret(reference, env=env, file=wanted.file, phase=wanted.phase, inject=inject))
    for program in new.programs:
        _require_places([each for each in pinned if each.phase is program.phase], taken=tuple(program.env))
    return tuple(pinned)


def told_of(given: JobSecret) -> str:
    """Say for the trail which version of which secret a job is given, and where it goes if not to the sandbox."""
    text = f"{given.secret.name}@{given.secret.version}"
    return text if given.inject is None else f"{text} for {given.inject.host}"


def _place_of(name: str, wanted: Injected, network: Sequence[Connection]) -> Injected:
    """Read where a secret is to be put; the job must ask to connect there."""
    try:
        host = parse_host(wanted.host)
    except NoHostError as error:
        raise injection_host_invalid(wanted.host, str(error)) from None
    if wanted.header is not None and not is_injectable_header(wanted.header):
        raise injection_header_invalid(wanted.header)
    if not any(_leads_to(asked, host) for asked in network):
        raise injection_unconnected(name, host.name)
    return Injected(host.name, wanted.header)


def _leads_to(asked: Connection, host: Host) -> bool:
    try:
        named = parse_host(asked.host, wildcard=True)
    except NoHostError:
        return False
    below = named.wildcard and host.address is None and host.name.endswith(f".{named.name}")
    return asked.port == PORT and (below or named == host)


def _require_places(pinned: Sequence[JobSecret], *, taken: Sequence[str]) -> None:
    """Refuse what would lie over something else: a variable, a file, or a file where a folder must be."""
    names, files, headers = set(taken), set[str](), set[tuple[str, str]]()
    for each in pinned:
        if each.env is not None:
            if each.env in names:
                raise secret_place_taken(f"the variable {each.env}")
            names.add(each.env)
        if each.inject is not None and each.inject.header is not None:
            header = (each.inject.host, each.inject.header.lower())
            if header in headers:
                raise secret_place_taken(f"the header {each.inject.header} for {each.inject.host}")
            headers.add(header)
        if each.file is not None:
            if any(f"{each.file}/".startswith(f"{one}/") or f"{one}/".startswith(f"{each.file}/") for one in files):
                raise secret_place_taken(f"the file {each.file}")
            files.add(each.file)
