"""The programs a job is asked for with, as they are accepted."""

from collections.abc import Mapping

from tenantry.capabilities.sandboxes.errors import phase_absent, phases_malformed, secrets_in_fetch
from tenantry.capabilities.sandboxes.types import Image, JobPhase, NewJob
from tenantry.engines.rules.types import Phase


def require_phases(new: NewJob) -> None:
    """Refuse programs that make no job, and what is given to one that is not there or may not have it."""
    phases = [program.phase for program in new.programs]
    if phases != [phase for phase in Phase if phase in phases] or Phase.RUN not in phases:
        raise phases_malformed("run, perhaps fetch before it and publish after it, each once")
    if any(wanted.phase is Phase.FETCH for wanted in new.secrets):
        raise secrets_in_fetch()
    if any(wanted.phase not in phases for wanted in new.secrets):
        raise phases_malformed("a secret is for a phase that is not there")
    for at, asked in enumerate(new.network):
        if asked.phase not in phases:
            raise phase_absent(at, asked.phase)


def images_of(new: NewJob) -> tuple[str, ...]:
    """List what its programs start from, each once."""
    return tuple(dict.fromkeys(program.image or new.image for program in new.programs))


def plan_phases(new: NewJob, images: Mapping[str, Image | None]) -> tuple[JobPhase, ...]:
    """Make the programs of a job, each with the content that its image is now."""
    return tuple(
        JobPhase(
            phase=program.phase,
            command=program.command,
            image=(name := program.image or new.image),
            image_digest=image.digest if (image := images[name]) is not None else None,
            timeout_seconds=program.timeout_seconds,
            writable=program.writable,
            inputs=program.inputs,
        )
        for program in new.programs
    )
