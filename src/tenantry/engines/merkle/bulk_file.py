"""A log in a file, verified by several processes: each opens the file and hashes whole subtrees of its own.

Run as a program, `PATH START STOP`, it is one of them: it hashes lines START to STOP - 1 and answers on its output with
the number of whole tiles in 8 bytes, big-endian, and then all hashes.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice, pairwise
from os import SEEK_CUR, SEEK_END
from pathlib import Path
from subprocess import PIPE, Popen
from typing import BinaryIO, Final

from tenantry.engines.merkle.bulk import Beside, Hashed, apart, hash_lines, lines_of, require_head, verify_lines
from tenantry.engines.merkle.errors import LogMismatch
from tenantry.engines.merkle.tree import TILE_WIDTH

BIG_LINES: Final = 200_000
"""From so many lines on a second process is worth its start."""
_CHUNK_BYTES: Final = 1 << 20
_COUNT_BYTES: Final = 8


def verify_file(path: Path, *, size: int, root: bytes, beside: Beside | None = None, processes: int = 2) -> None:
    r"""Do as `verify_lines` with a file of lines that each end with `\n`; of BIG_LINES and more in several processes.

    A file that is refused is read once more, for the index. Raises ChildProcessError, which says nothing of the log,
    when another process did not finish, and OSError for a file that cannot be read.
    """
    require_head(size, root)
    _require_whole(path)
    parts = max(1, processes) if size >= BIG_LINES else 1
    cuts = [size * part // parts // TILE_WIDTH * TILE_WIDTH for part in range(parts)]
    spans = list(pairwise([*cuts, size + 1]))
    with ExitStack() as stack:
        others = [stack.enter_context(_elsewhere(path, *span)) for span in spans[1:]]
        hashed = [_hash_part(path, *spans[0]), *map(_answer, others)]
    whole = Hashed([one for part in hashed for one in part.tiles], [one for part in hashed for one in part.tail])
    if (whole.count, whole.root) != (size, root):
        with path.open("rb") as file:
            verify_lines(lines_of(file), size=size, root=root, beside=beside)
        raise LogMismatch("the file has changed while it was read")


def _require_whole(path: Path) -> None:
    with path.open("rb") as file:
        if file.seek(0, SEEK_END):
            file.seek(-1, SEEK_CUR)
            if file.read() != b"\n":
                raise LogMismatch("the last line is cut off")


def _hash_part(path: Path, start: int, stop: int) -> Hashed:
    """Hash lines `start` to `stop - 1`, or as many of them as there are."""
    with path.open("rb") as file:
        skip_lines(file, start)
        return hash_lines(islice(lines_of(file), stop - start))


def skip_lines(file: BinaryIO, lines: int) -> None:
    while lines and (chunk := file.read(_CHUNK_BYTES)):
        ended = chunk.count(b"\n")
        if ended >= lines:
            file.seek(-len(chunk.split(b"\n", lines)[-1]), SEEK_CUR)
            return
        lines -= ended


@contextmanager
def _elsewhere(path: Path, start: int, stop: int) -> Iterator[Popen[bytes]]:
    command = [sys.executable, "-I", "-m", __spec__.name, str(path.absolute()), str(start), str(stop)]
    with Popen(command, stdout=PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def _answer(child: Popen[bytes]) -> Hashed:
    answer = child.communicate()[0]
    if child.returncode:
        raise ChildProcessError("another process did not finish its part of the file")
    hashes = apart(answer[_COUNT_BYTES:])
    tiles = int.from_bytes(answer[:_COUNT_BYTES], "big")
    return Hashed(hashes[:tiles], hashes[tiles:])


def main(path: str, start: str, stop: str) -> None:
    part = _hash_part(Path(path), int(start), int(stop))
    sys.stdout.buffer.write(b"".join((len(part.tiles).to_bytes(_COUNT_BYTES, "big"), *part.tiles, *part.tail)))


if __name__ == "__main__":
    main(*sys.argv[1:])
