from collections.abc import Sequence
from pathlib import Path

from tenantry.client.saving import path_below
from tenantry.client.types import Artifact
from tenantry.interfaces.cli.invocation import Invocation
from tenantry.interfaces.cli.output import say


def fetch(cli: Invocation, *, job: str, artifacts: Sequence[Artifact], directory: Path) -> None:
    """Write artifacts below a directory under their own paths; raises BadAnswer for a path that leads elsewhere.

    All paths are judged before the first byte is fetched.
    """
    targets = [(artifact, path_below(directory, artifact["path"])) for artifact in artifacts]
    for artifact, target in targets:
        # Judged again: a file fetched meanwhile cannot be a link, but the directory is not ours alone.
        path_below(directory, artifact["path"])
        size = cli.client.jobs.download(cli.workspace, job, artifact["id"], to=target, sha256=artifact.get("sha256"))
        say(f"{target} ({size} bytes)")
