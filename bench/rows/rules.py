"""Row 5: forty globs over images and a command policy, with the rule that decided."""

import json
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from itertools import cycle
from typing import Final

from bench.installation import Installation
from bench.report import Bar, Result
from bench.rows.decisions import interleaved
from tenantry.engines.rules.documents import from_value
from tenantry.engines.rules.types import Kind

_ALLOWED: Final = ["python:*", "node:*", "golang:*", *(f"ghcr.io/team{n}/*" for n in range(31))]
_BLOCKED: Final = ["*:latest", "docker:*-dind", "*/miner*", "*:*-alpha", "quay.io/old/*", "*/debug/*"]
_COMMANDS: Final = ["rm -rf /", "curl * | bash", "wget * | sh", ":(){:|:&};:"]
_PATTERNS: Final = ["--privileged", "--net=host", "--pid=host"]
# Image and command; half of them are denied, by a rule near the end as often as by one at the start.
_ASKED: Final[Sequence[tuple[str, tuple[str, ...]]]] = (
    ("ghcr.io/team30/service/api:1.4.2", ("python", "-m", "service", "--port", "8080")),
    ("docker.io/library/python:3.12", ("pytest", "-q", "tests")),
    ("ghcr.io/team7/debug/shell:2", ("make", "build")),
    ("quay.io/old/tool:1", ("tool", "run", "--privileged", "x")),
)


async def measure(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - nothing is asked of it
    result = Result("5", "40 image globs and a command policy, with the rule — against cedarpy and an fnmatch loop")
    images = from_value(Kind.IMAGE, {"allowed_images": _ALLOWED, "blocked_images": _BLOCKED})
    patterns = [f".*{pattern}.*" for pattern in _PATTERNS]
    commands = from_value(Kind.COMMAND, {"blocked_commands": _COMMANDS, "blocked_patterns": patterns})
    asked = cycle(_ASKED)

    def rules() -> object:
        image, argv = next(asked)
        return images.check_image(image).findings, commands.check_command(argv).findings

    ways: dict[str, Callable[[], object]] = {"rules": rules, "fnmatch loop": _fnmatch()}
    try:
        ways["cedarpy, parsed handles"] = _cedar()
    except ImportError:
        result.remarks.append("cedarpy: not measured, install the dependency group `bench`")
    result.series = interleaved(ways, blocks=20 if quick else 400)
    own = result.series[0].percentile(0.5)
    result.bars.append(Bar("p50", own, 8, unit=" µs"))
    result.bars += [
        Bar(f"faster than {one.name}", one.percentile(0.5) / own, 7, least=True)
        for one in result.series[1:]
        if one.name.startswith("cedarpy")
    ]
    result.remarks.append("The loop completes no name, reads no shell text, and its globs mean less.")
    return [result]


def _fnmatch() -> Callable[[], object]:
    """Look for the first glob that matches, as most do it."""
    asked = cycle(_ASKED)
    commands = [*_COMMANDS, *(f"*{pattern}*" for pattern in _PATTERNS)]

    def look() -> object:
        image, argv = next(asked)
        said = " ".join(argv)
        return (
            next((glob for glob in _BLOCKED if fnmatchcase(image, glob)), None),
            next((glob for glob in _ALLOWED if fnmatchcase(image, glob)), None),
            next((glob for glob in commands if fnmatchcase(said, glob)), None),
        )

    return look


def _cedar() -> Callable[[], object]:
    """One policy for each glob, on names that have been completed before; the reasons are in its answer."""
    import cedarpy

    def full(glob: str) -> str:
        return glob if "/" in glob or glob.startswith("*") else f"docker.io/library/{glob}"

    said = [json.dumps(full(glob)) for glob in _ALLOWED]
    text = "\n".join(f"permit(principal, action, resource) when {{ context.image like {glob} }};" for glob in said)
    said = [json.dumps(full(glob)) for glob in _BLOCKED]
    text += "\n".join(f"forbid(principal, action, resource) when {{ context.image like {glob} }};" for glob in said)
    commands = [*_COMMANDS, *(f"*{pattern}*" for pattern in _PATTERNS)]
    said = [json.dumps(glob) for glob in commands]
    text += "\n".join(f"forbid(principal, action, resource) when {{ context.command like {glob} }};" for glob in said)
    policies = cedarpy.PolicySet.from_str(text)
    entities = cedarpy.Entities.from_json_str("[]")
    asked = cycle(
        [
            {
                "principal": 'Key::"key"',
                "action": 'Action::"start"',
                "resource": 'Place::"here"',
                "context": {"image": image, "command": " ".join(argv)},
            }
            for image, argv in _ASKED
        ]
    )
    return lambda: cedarpy.is_authorized(next(asked), policies, entities)
