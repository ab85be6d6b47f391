"""The programs of a job, as they are asked for."""

from typing import Required, TypedDict

from tenantry.client.secret_types import SecretUse
from tenantry.client.types import Connection


class JobPhase(TypedDict, total=False):
    """One program of a job, in a sandbox of its own; `workspace` is `write` or `read`, what it may do with /workspace.

    All but `command` may be left out: then its image is the job's, it connects to nothing, has no secrets, only `run`
    has /inputs, and `publish` may only read /workspace.
    """

    command: Required[list[str]]
    image: str
    env: dict[str, str]
    network: list[Connection]
    secrets: list[SecretUse]
    timeout_seconds: float
    workspace: str
    inputs: bool


class JobPhases(TypedDict, total=False):
    """Programs one after the other; /workspace goes from one to the next. `fetch` has no secrets."""

    fetch: JobPhase
    run: Required[JobPhase]
    publish: JobPhase
