"""Row 8v: a whole log verified offline, reading the file included, beside hashing that file as one piece."""

import hashlib
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.installation import Installation
from bench.report import Bar, Result, Series
from tenantry.engines.merkle.bulk_file import verify_file
from tenantry.engines.merkle.tree import Frontier, leaf_hash

_LINES, _QUICK_LINES = 1_000_000, 250_000
_LINE_BYTES = 450
_BAR_SECONDS = 2


async def measure(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - nothing is asked of it
    count = _QUICK_LINES if quick else _LINES
    result = Result("8v", f"{count} events of {_LINE_BYTES} bytes verified offline — against hashing the file as one")
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / "log.jsonl"
        root = _write(file, count)
        ways: dict[str, Callable[[], object]] = {
            "two processes": lambda: verify_file(file, size=count, root=root),
            "one process": lambda: verify_file(file, size=count, root=root, processes=1),
            "SHA-256 of the file": lambda: _hash_file(file),
        }
        result.series = [Series(name, unit="s") for name in ways]
        for _ in range(1 if quick else 7):
            for series, way in zip(result.series, ways.values(), strict=True):
                begun = time.perf_counter()
                way()
                series.samples.append(time.perf_counter() - begun)
    result.bars.append(Bar("p50", result.series[0].percentile(0.5) * _LINES / count, _BAR_SECONDS, unit=" s a million"))
    return [result]


def _write(file: Path, count: int) -> bytes:
    chance = random.Random(1)  # noqa: S311 - lines that are alike on every run
    frontier = Frontier()
    with file.open("wb") as lines:
        for start in range(0, count, 10_000):
            block = [_line(number, chance) for number in range(start, min(start + 10_000, count))]
            lines.writelines(line + b"\n" for line in block)
            frontier = frontier.append_many(leaf_hash(line) for line in block).frontier
    return frontier.root


def _line(number: int, chance: random.Random) -> bytes:
    line = b'{"action":"job.created","id":"aud_%026d","details":"' % number
    return line + chance.randbytes((_LINE_BYTES - len(line)) // 2).hex().encode() + b'"}'


def _hash_file(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()
