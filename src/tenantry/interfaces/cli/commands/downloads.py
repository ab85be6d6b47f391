from collections.abc import Callable, Sequence
from pathlib import Path

from tenantry.client.saving import path_below
from tenantry.client.types import Artifact, GivenInput
from tenantry.interfaces.cli.invocation import Invocation
from tenantry.interfaces.cli.output import say


def fetch_artifacts(cli: Invocation, *, job: str, artifacts: Sequence[Artifact], directory: Path) -> None:
    """Write artifacts below a directory under their own paths; raises BadAnswer for a path that leads elsewhere."""

    def one(number: int, target: Path) -> int:
        found = artifacts[number]
        return cli.client.jobs.download(cli.workspace, job, found["id"], to=target, sha256=found.get("sha256"))

    _fetch([each["path"] for each in artifacts], directory=directory, one=one)


def fetch_inputs(cli: Invocation, *, job: str, inputs: Sequence[GivenInput], directory: Path) -> None:
    """Write what a job was given below a directory, by the same rules."""

    def one(number: int, target: Path) -> int:
        return cli.client.jobs.download_input(cli.workspace, job, inputs[number]["sha256"], to=target)

    _fetch([each["path"] for each in inputs], directory=directory, one=one)


def _fetch(paths: Sequence[str], *, directory: Path, one: Callable[[int, Path], int]) -> None:
    """Fetch each; all paths are judged before the first byte is."""
    targets = [path_below(directory, path) for path in paths]
    for number, target in enumerate(targets):
        # Judged again: a file fetched meanwhile cannot be a link, but the directory is not ours alone.
        path_below(directory, paths[number])
        say(f"{target} ({one(number, target)} bytes)")
