"""Row 12: a request out of a sandbox through its gateway, beside the same request over a connection of its own."""

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

from bench.installation import Installation
from bench.report import Bar, Result, Series
from bench.rows.outward import ASKING, NAME, PYTHON, add, ask_inside, fresh_address, serving
from tenantry.engines.jail.docker.backend import DockerBackend
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import Limits, Network, Spec

_PORT = 80
_DOWNLOAD = 256 << 20

# What asks, inside and outside alike.
_CLIENT = f"""{ASKING}
host, port, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
place = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
view = memoryview(bytearray(1 << 20))
def fresh():
    with socket.create_connection(place) as s:
        request(s, 100)
for _ in range(10): fresh()
new = [timed(fresh) for _ in range(count)]
with socket.create_connection(place) as s:
    request(s, 100)
    kept = [timed(lambda: request(s, 100)) for _ in range(count)]
    rate = size / 1e3 / timed(lambda: request(s, size))
print(json.dumps([new, kept, rate]))
"""


async def measure(
    installation: Installation,  # noqa: ARG001 - every row gets one
    *,
    quick: bool,
    engine: Path | None = None,
) -> list[Result]:
    """Row 12, in the jail; where there is an `engine`, its socket, in a container of it."""
    result = Result("12", "allowed request out of a sandbox through the gateway — against a connection of its own")
    if os.geteuid() != 0:
        result.remarks.append("not measured: what answers listens at port 80, which is root's")
        return [result]
    place = fresh_address()
    arguments = [str(20 if quick else 200), str(_DOWNLOAD >> (3 if quick else 0))]
    ours = [Series("gateway, new connection"), Series("gateway, kept alive"), Series("gateway, download", unit="MB/s")]
    theirs = [Series("direct, new connection"), Series("direct, kept alive"), Series("direct, download", unit="MB/s")]
    with tempfile.TemporaryDirectory() as home:
        spec = Spec(
            image=ImageStore(Path(home) / "images").host(),
            command=(PYTHON, "-c", _CLIENT, NAME, str(_PORT), *arguments),
            network=Network(),
            limits=Limits(cpus=2, timeout_seconds=60),
        )
        opening = Jail.open(Path(home)) if engine is None else DockerBackend.open(Path(home), socket=engine)
        async with serving(place, _PORT), await opening as jail:
            for _ in range(1 if quick else 5):
                add(ours, await ask_inside(jail, spec, place=place, port=_PORT))
                add(theirs, await _outside([place, str(_PORT), *arguments]))
    result.series = [*ours, *theirs]
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        added = mine.percentile(0.5) - other.percentile(0.5)
        result.bars.append(Bar(f"added to {mine.name.partition(', ')[2]}, p50", added, 1, unit=" ms"))
    result.bars.append(Bar("download, p50", ours[2].percentile(0.5), 300, least=True, unit=" MB/s"))
    result.remarks.append("the name is resolved at once: what the host's resolver takes comes on top")
    return [result]


async def _outside(arguments: list[str]) -> bytes:
    process = await asyncio.create_subprocess_exec(PYTHON, "-c", _CLIENT, *arguments, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    return said
