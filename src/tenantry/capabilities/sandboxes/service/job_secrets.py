"""The secrets of a job: pinned when it is accepted, opened by the attempt that begins it, kept nowhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.sandboxes.errors import secret_place_taken
from tenantry.capabilities.sandboxes.types import Job, JobSecret, NewJob
from tenantry.capabilities.secrets.service import find_reference, open_secrets
from tenantry.engines.envelope.keyring import Keyring
from tenantry.engines.jail.types import InputFile
from tenantry.engines.rules.types import Phase
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import TenantScope


@dataclass(frozen=True, slots=True)
class OpenedSecrets:
    """What one sandbox is given; `values` is to be masked."""

    environment: dict[str, str] = field(default_factory=dict, repr=False)
    files: tuple[InputFile, ...] = field(default=(), repr=False)
    values: tuple[str, ...] = field(default=(), repr=False)


class SecretOpener:
    """Opens secrets for the attempts of one worker."""

    def __init__(self, *, cell: Cell, keyring: Keyring, clock: Clock) -> None:
        self._cell = cell
        self._keyring = keyring
        self._clock = clock

    async def open(self, job: Job, scope: TenantScope) -> Mapping[Phase, OpenedSecrets]:
        """Open what the job was promised, by phase; the use is recorded, and committed, before anything is given.

        Raises what `secrets.open_secrets` raises, Denied where the tenant is closed. A retry is safe.
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


def _opened(pairs: Sequence[tuple[JobSecret, str]]) -> OpenedSecrets:
    return OpenedSecrets(
        environment={given.env: value for given, value in pairs if given.env is not None},
        files=tuple(InputFile(given.file, value.encode()) for given, value in pairs if given.file is not None),
        values=tuple(value for _, value in pairs),
    )


def values_of(opened: Mapping[Phase, OpenedSecrets]) -> tuple[str, ...]:
    """List all values, the shortest first: those are tokens, the long ones files."""
    return tuple(sorted((value for each in opened.values() for value in each.values), key=len))


async def pin_secrets(session: TenantSession, new: NewJob, *, workspace_id: UUID) -> tuple[JobSecret, ...]:
    """Say which versions each program of a job will be given; raises Invalid `secret_unknown`, `secret_place_taken`."""
    pinned = []
    for wanted in new.secrets:
        reference = await find_reference(session, wanted.name, version=wanted.version, workspace_id=workspace_id)
        env = wanted.name if wanted.env is None and wanted.file is None else wanted.env
        pinned.append(JobSecret(reference, env=env, file=wanted.file, phase=wanted.phase))
    for program in new.programs:
        _require_places([each for each in pinned if each.phase is program.phase], taken=tuple(program.env))
    return tuple(pinned)


def _require_places(pinned: Sequence[JobSecret], *, taken: Sequence[str]) -> None:
    """Refuse what would lie over something else: a variable, a file, or a file where a folder must be."""
    names, files = set(taken), set[str]()
    for each in pinned:
        if each.env is not None:
            if each.env in names:
                raise secret_place_taken(f"the variable {each.env}")
            names.add(each.env)
        if each.file is not None:
            if any(f"{each.file}/".startswith(f"{one}/") or f"{one}/".startswith(f"{each.file}/") for one in files):
                raise secret_place_taken(f"the file {each.file}")
            files.add(each.file)
