"""Who plays in the demo: the platform and two tenants, and what they do on stage again and again."""

import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Final

from tenantry.capabilities.tenants.types import PLATFORM_SLUG
from tenantry.client.errors import ApiError, ClientError
from tenantry.client.logs import JobEnd
from tenantry.client.resources.jobs import job_input
from tenantry.client.surface import Client
from tenantry.client.types import Job, JobInput, JobLimits
from tenantry.entrypoints import demo_files
from tenantry.entrypoints.demo_stage import Stage
from tenantry.entrypoints.servers import RunningServer

NAMES: Final = ("acme", "globex")
KEYS: Final = "demo_tenants"
"""Folder of the home with a `credentials.json` for each tenant. No region can be called so: it has an underscore."""
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Work:
    """What a job is asked to do. Inputs are below /inputs; artifacts are globs of what to keep of /workspace."""

    command: tuple[str, ...]
    inputs: tuple[JobInput, ...] = ()
    artifacts: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limits: JobLimits = field(default_factory=lambda: JobLimits(timeout_seconds=120))


@dataclass(slots=True)
class Watched:
    """A log as it arrived here: `at` has the moment of each piece, `text` all of it."""

    at: list[float] = field(default_factory=list)
    text: str = ""
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Party:
    """One tenant: its owner and its operator, and the workspace they meet in."""

    name: str
    slug: str
    region: str
    id: str
    workspace: str
    owner: Client = field(repr=False)
    operator: Client = field(repr=False)

    def start(self, work: Work, *, wait_seconds: float | None = None) -> Job:
        """Create a job; with `wait_seconds` it has ended when this returns, unless it takes longer."""
        return self.operator.jobs.create(
            self.workspace,
            command=work.command,
            inputs=work.inputs or None,
            artifacts=work.artifacts or None,
            env=work.env or None,
            limits=work.limits,
            wait_seconds=wait_seconds,
        )

    def watch(self, stage: Stage, work: Work) -> tuple[Job, Watched]:
        """Run a job and show its output as it comes."""
        job = self.start(work)
        seen = Watched()
        for event in self.operator.jobs.follow(self.workspace, job["id"]):
            if isinstance(event, JobEnd):
                break
            seen.at.append(time.monotonic())
            seen.text += event.text
            stage.quote(self.name, event.text)
        seen.ended_at = time.monotonic()
        return self.seen(job), seen

    def seen(self, job: Job) -> Job:
        """Look at a job again."""
        return self.operator.jobs.get(self.workspace, job["id"])

    def ended(self, job: Job, *, seconds: float) -> Job:
        """Wait until a job has ended; gives it as it is when the time is over."""
        deadline = time.monotonic() + seconds
        while (found := self.seen(job))["finished_at"] is None and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return found

    def output(self, job: Job) -> str:
        """Everything a job wrote."""
        return "".join(line.text for line in self.operator.jobs.logs(self.workspace, job["id"]))

    @contextmanager
    def running(self, work: Work) -> Iterator[Job]:
        """Hold a job that has begun to write; it is cancelled at the end, if it still runs."""
        job = self.start(work)
        try:
            with closing(self.operator.jobs.follow(self.workspace, job["id"])) as events:
                next(events, None)
            yield self.seen(job)
        finally:
            with suppress(ClientError):
                self.operator.jobs.cancel(self.workspace, job["id"])


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody, once the first scene is over. `alone`: nobody but the demo has tenants on this installation."""

    home: Path
    server: RunningServer
    platform: Client
    acme: Party
    globex: Party
    alone: bool


def shipped(name: str) -> bytes:
    """Read a file that is shipped with the demo."""
    return files(demo_files).joinpath(name).read_bytes()


def given(*names: str) -> tuple[JobInput, ...]:
    """Make inputs of shipped files; a job finds them below /inputs."""
    return tuple(job_input(path=name, content=shipped(name)) for name in names)


def refusal_of(attempt: Callable[[], object]) -> ApiError | None:
    """Give the refusal of a request, None when it was not refused."""
    try:
        attempt()
    except ApiError as error:
        return error
    return None


def free_slugs(platform: Client) -> tuple[dict[str, str], bool]:
    """Choose slugs nobody has, and say whether all tenants there are come from the demo."""
    taken = {tenant["slug"] for tenant in platform.tenants.list()}
    number = next(n for n in itertools.count(1) if not taken & {_slug(name, n) for name in NAMES})
    own = re.compile(rf"({'|'.join(NAMES)})(-[0-9]+)?")
    alone = all(own.fullmatch(slug) for slug in taken - {PLATFORM_SLUG})
    return {name: _slug(name, number) for name in NAMES}, alone


def _slug(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"
