"""What comes between two phases of a job, with real sandboxes and at the very moment."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tenantry.capabilities.sandboxes.service.output import JobOutput
from tenantry.capabilities.sandboxes.service.phases import Given, JobPhases
from tenantry.capabilities.sandboxes.types import Job, JobEnd, JobLimits, JobPhase, JobStatus, LogLine, SealedLine
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import ImageRoot
from tenantry.engines.rules.types import Connection, Phase
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.ids import new_id
from tenantry.foundation.settings import JobSettings
from tenantry.kit.masking.stream import Mask

PROXY = 'exec 3<>/dev/tcp/127.0.0.1/3128; printf "CONNECT example.com:443 HTTP/1.1\\r\\n\\r\\n" >&3; head -1 <&3'


@dataclasses.dataclass
class House:
    """A jail, its image, and what was said in it."""

    jail: Jail
    host: ImageRoot
    said: list[str] = dataclasses.field(default_factory=list)

    def made(self, job: Job, between: Callable[[], Job | JobEnd]) -> tuple[JobPhases, JobOutput]:
        self.said = []

        def seal(line: LogLine) -> SealedLine:
            self.said.append(line.text)
            return SealedLine(line.seq, line.stream, line.at, b"")

        async def write(_: list[SealedLine]) -> None:
            """Keep nothing."""

        async def look() -> Job | JobEnd:
            return between()

        async def root(_: JobPhase) -> ImageRoot:
            return self.host

        output = JobOutput(write, seal=seal, mask=Mask(()), clock=SystemClock())
        phases = JobPhases(
            job,
            Given({}, (), {}),
            jail=self.jail,
            root=root,
            still_wanted=look,
            output=output,
            settings=JobSettings(),
            clock=SystemClock(),
        )
        return phases, output

    async def run(self, job: Job, between: Callable[[], Job | JobEnd]) -> tuple[JobEnd, str]:
        phases, output = self.made(job, between)
        async with contextlib.AsyncExitStack() as stack:
            end = await phases.run(stack)
            await output.finish()
        return end, "".join(self.said)


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    home: Path = tmp_path_factory.mktemp("home")
    async with await Jail.open(home) as jail:
        yield House(jail, ImageStore(home / "images").host())


def job_of(*scripts: str, network: tuple[Connection, ...] = ()) -> Job:
    phases = tuple(
        JobPhase(phase, ("bash", "-c", script), "host") for phase, script in zip(Phase, scripts, strict=False)
    )
    return Job(
        job_id=new_id(),
        workspace_id=new_id(),
        principal_id="",
        status=JobStatus.RUNNING,
        reason=None,
        detail=None,
        exit_code=None,
        command=("true",),
        image="host",
        image_digest=None,
        labels={},
        limits=JobLimits(memory_mib=64, timeout_seconds=30),
        artifact_globs=(),
        persistence_mode="full",
        place="",
        content_key=None,
        transient_key=None,
        transient_holder=None,
        inputs=(),
        attempt=1,
        log_bytes=0,
        log_sha256=None,
        usage={},
        receipt=None,
        queued_at=datetime.now(UTC),
        started_at=None,
        finished_at=None,
        content_until=None,
        content_purged_at=None,
        network=network,
        phases=phases,
    )


async def test_a_job_nobody_wants_any_more_begins_no_other_phase(house: House) -> None:
    job, looks = job_of("echo one", "echo two", "echo three"), []

    def between() -> Job | JobEnd:
        looks.append(1)
        return job if len(looks) == 1 else JobEnd(JobStatus.CANCELLED, "workspace_suspended")

    end, said = await house.run(job, between)
    assert (end.status, end.reason) == (JobStatus.CANCELLED, "workspace_suspended")
    assert ("one" in said, "two" in said, "three" in said) == (True, True, False)


async def test_a_kill_between_two_phases_is_kept(house: House) -> None:
    job = job_of("echo one", "echo two")

    def between() -> Job | JobEnd:
        phases.kill("cancelled")
        return job

    phases, output = house.made(job, between)
    async with contextlib.AsyncExitStack() as stack:
        end = await phases.run(stack)
        await output.finish()
    assert (end.status, end.reason) == (JobStatus.CANCELLED, "cancelled")
    assert "two" not in "".join(house.said)
    assert phases.usage["output_bytes"] == len("one\n")


async def test_what_a_policy_took_meanwhile_the_next_phase_does_not_have(house: House) -> None:
    asked = Connection(Phase.RUN, "example.com", 443)
    job = job_of("true", PROXY, network=(asked,))
    _, said = await house.run(job, lambda: dataclasses.replace(job, network=()))
    assert "403" in said
    assert "not on the list" in said


async def test_what_ended_before_something_goes_wrong_is_counted(house: House) -> None:
    job = job_of("echo one", "echo two")

    def between() -> Job | JobEnd:
        raise Unavailable("database_unavailable", "away", layer="database")

    phases, output = house.made(job, between)
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(Unavailable):
            await phases.run(stack)
        await output.finish()
    assert phases.usage["output_bytes"] == len("one\n")
    assert phases.receipt is not None
    assert phases.receipt["phases"].keys() == {"fetch"}


async def test_a_phase_that_has_no_time_left_does_not_begin(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantry.capabilities.sandboxes.service.phases._LEAST_SECONDS", 40.0)
    end, said = await house.run(job_of("echo one", "echo two"), lambda: JobEnd(JobStatus.FAILED, "unasked"))
    assert (end.status, end.reason) == (JobStatus.TIMED_OUT, "timed_out")
    assert end.detail == "fetch did not begin: those before it took the 30 s of the job"
    assert said == ""


async def test_no_sandbox_is_left_when_a_job_has_ended(house: House) -> None:
    job = job_of("echo one > a", "cat a", "cat a")
    end, said = await house.run(job, lambda: job)
    assert end.status is JobStatus.SUCCEEDED, said
    assert said.count("one") == 2
    assert house.jail._sandboxes == {}
