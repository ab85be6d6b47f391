"""The events of an audit bundle, read once: hashed, and held against the canonical form and the one tenant they are of.

Almost every event has one shape: strings, whole numbers and lists of them under names that are known. Of that shape
canonical JSON is a regular language, so one pattern decides for a block of lines at once; what it does not match is
parsed and written again (RFC 8785). The pattern is anchored at both ends of a line and quotes end strings only where
they are not escaped, so no nested member and no text inside a string passes for the event's own `tenant`.

Run as a program, `PATH OFFSET START STOP TENANT`, it reads events START to STOP - 1 and answers on its output. It is
run by its place, not by its name: that would import the service around it, which takes longer to start.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE, Popen
from typing import BinaryIO, Final, Self

from tenantry.engines.merkle.bulk import apart, hash_lines
from tenantry.engines.merkle.bulk_file import skip_lines
from tenantry.engines.merkle.tree import HASH_BYTES, TILE_WIDTH, Frontier, folded

MAX_LINE_BYTES: Final = 1 << 20
FOREIGN: Final = "foreign"
MALFORMED: Final = "malformed"
_ID_BYTES: Final = 30
ID: Final = re.compile(r"evt_[0-7][0-9a-hjkmnp-tv-z]{25}")
_CHUNK_BYTES: Final = 1 << 17
_NUMBERS: Final = 5
_NUMBER_BYTES: Final = 8
_NAMES: Final = re.compile(rb'"([a-z0-9_]+)":')


@dataclass(slots=True)
class Events:
    """Events from the start of a tile on: what their tree is made of, their ids, and the first of each fault."""

    tiles: list[bytes] = field(default_factory=list)
    leaves: bytearray = field(default_factory=bytearray)
    """32 bytes an event."""
    ids: list[bytes] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    """FOREIGN, MALFORMED: the place of the first such event, from 0."""
    end: int = 0
    """Where in the file the next line begins."""

    @property
    def count(self) -> int:
        return len(self.leaves) // HASH_BYTES

    def roots(self, sizes: list[int]) -> Iterator[bytes]:
        """Give the root at each of the sizes, which ascend and are at most `count`."""
        edge = Frontier()
        for size in sizes:
            whole = size // TILE_WIDTH
            edge = edge.append_many(self.tiles[edge.size : whole]).frontier
            rest = apart(bytes(self.leaves[whole * TILE_WIDTH * HASH_BYTES : size * HASH_BYTES]))
            yield folded([*edge.edge, *Frontier().append_many(rest).frontier.edge])

    def joined(self, behind: "Events") -> "Events":
        """Put the events of the next part behind."""
        faults = {kind: at + self.count for kind, at in behind.faults.items()} | self.faults
        return Events(
            [*self.tiles, *behind.tiles],
            self.leaves + behind.leaves,
            [*self.ids, *behind.ids],
            faults,
            behind.end,
        )

    def to_bytes(self) -> bytes:
        numbers = [len(self.tiles), self.count, self.end, *(self.faults.get(kind, -1) for kind in (FOREIGN, MALFORMED))]
        head = b"".join(number.to_bytes(_NUMBER_BYTES, "big", signed=True) for number in numbers)
        return b"".join((head, *self.tiles, self.leaves, *self.ids))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read what `to_bytes` gave."""
        head = range(0, _NUMBERS * _NUMBER_BYTES, _NUMBER_BYTES)
        numbers = [int.from_bytes(raw[at : at + _NUMBER_BYTES], "big", signed=True) for at in head]
        tiles, count, end, *faults = numbers
        tiles_end = head.stop + tiles * HASH_BYTES
        ids = tiles_end + count * HASH_BYTES
        return cls(
            apart(raw[head.stop : tiles_end]),
            bytearray(raw[tiles_end:ids]),
            [raw[at : at + _ID_BYTES] for at in range(ids, len(raw), _ID_BYTES)],
            {kind: at for kind, at in zip((FOREIGN, MALFORMED), faults, strict=True) if at >= 0},
            end,
        )


def read_events(path: Path, *, offset: int, size: int, tenant: str, processes: int) -> Events:
    """Read at most `size` events from byte `offset` on, in so many processes; fewer where the lines end.

    Raises OSError for what cannot be read, ChildProcessError when another process did not finish.
    """
    cuts = [size * part // processes // TILE_WIDTH * TILE_WIDTH for part in range(processes)]
    first, *others = pairwise([*cuts, size])
    begun: list[tuple[tuple[int, int], Popen[bytes]]] = []
    try:
        begun += [(span, _elsewhere(path, offset, *span, tenant)) for span in others]
        events = read_part(path, offset=offset, start=first[0], stop=first[1], tenant=tenant)
        for (start, _), child in begun:
            answer = child.communicate()[0]
            if child.returncode:
                raise ChildProcessError("another process did not finish its part of the file")
            if events.count == start:
                events = events.joined(Events.from_bytes(answer))
    finally:
        for _, child in begun:
            with child:
                child.kill()
    return events


def _elsewhere(path: Path, offset: int, start: int, stop: int, tenant: str) -> "Popen[bytes]":
    numbers = (str(number) for number in (offset, start, stop))
    return Popen([sys.executable, "-I", __file__, str(path.absolute()), *numbers, tenant], stdout=PIPE)


def read_part(path: Path, *, offset: int, start: int, stop: int, tenant: str, limit: int | None = None) -> Events:
    """Read events `start` to `stop - 1`, or those that lie whole before byte `limit` of the file."""
    events = Events()
    with path.open("rb") as file:
        file.seek(offset)
        skip_lines(file, start)
        events.end = file.tell()
        hashed = hash_lines(
            _lines(file, stop - start, events, tenant=tenant, limit=limit),
            look=lambda _first, leaves, _tiles: events.leaves.extend(b"".join(leaves)),
        )
    events.tiles = hashed.tiles
    return events


def _lines(file: BinaryIO, count: int, events: Events, *, tenant: str, limit: int | None) -> Iterator[bytes]:
    """Give the lines without their ends; what they are is noted in `events` before they are given."""
    given = 0
    while given < count:
        room = _CHUNK_BYTES if limit is None else max(0, min(_CHUNK_BYTES, limit - events.end))
        block = file.read(room)
        if block and not block.endswith(b"\n"):
            block += file.readline(MAX_LINE_BYTES if limit is None else min(MAX_LINE_BYTES, limit - file.tell()))
        *lines, rest = block.split(b"\n")
        if len(lines) > count - given:
            lines, rest = lines[: count - given], b""
            block = b"\n".join([*lines, b""])
        if lines:
            _look(block, lines, given, events, tenant=tenant)
            events.end += len(block) - len(rest)
            given += len(lines)
            yield from lines
        if rest or not block:
            if len(rest) >= MAX_LINE_BYTES:
                events.faults.setdefault(MALFORMED, given)
            return


def _look(block: bytes, lines: list[bytes], first: int, events: Events, *, tenant: str) -> None:
    # A line before the last lies within one chunk, and is short enough.
    if len(lines[-1]) <= MAX_LINE_BYTES and (block.isascii() or _is_utf8(block)):
        found = _plain(tenant).findall(block)
        if len(found) == len(lines) and all(_ascend(one, two, more) for _, one, two, more, _ in found if two):
            events.ids += [one for *_, one in found]
            return
    for at, line in enumerate(lines, first):
        told = examined(line, tenant=tenant)
        if told in {FOREIGN, MALFORMED}:
            events.faults.setdefault(told, at)
        else:
            events.ids.append(told.encode())


def examined(line: bytes, *, tenant: str) -> str:
    """Give the id of an event of `tenant` in canonical form; else FOREIGN or MALFORMED."""
    from tenantry.kit.canonical_json import canonical_json

    try:
        event = json.loads(line.decode()) if len(line) <= MAX_LINE_BYTES else None
        if not isinstance(event, dict) or canonical_json(event) != line:
            return MALFORMED
    except (ValueError, RecursionError):
        return MALFORMED
    if event.get("tenant") != tenant:
        return FOREIGN
    named = event.get("id")
    return named if isinstance(named, str) and ID.fullmatch(named) else MALFORMED


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ascend(one: bytes, two: bytes, more: bytes) -> bool:
    if not more:
        return one < two
    names = [one, two, *_NAMES.findall(more)]
    return names == sorted(set(names))


@lru_cache(maxsize=4)
def _plain(tenant: str) -> re.Pattern[bytes]:
    """Match a line in canonical form that is plain.

    Groups: a commitment to the address, if there is one; names of the first two details, all further; the id. Whether
    the names of the details ascend is for the caller to see.
    """
    free = r"[ !#-\[\]-\xff]*+"
    text = rf'"{free}(?:"|(?:\\(?:["\\bfnrt]|u00(?:0[0-7bef]|1[0-9a-f])){free})++")'
    scalar = f"(?:{text}|-?[1-9][0-9]{{0,14}}|0|true|false|null)"
    name, value = '"([a-z0-9_]++)"', rf"(?:{scalar}|\[(?:{scalar}(?:,{scalar})*+)?+\])"
    more = rf'((?:,"[a-z0-9_]++":{value})*+)'
    committed = r'("committed":\{"ip":"[A-Za-z0-9_-]{43}"\},)?+'
    event = (
        rf'\{{"action":{text},"actor":\{{"chain":\[(?:{text}(?:,{text})*+)?+\],"id":{text},"type":{text}\}},{committed}'
        rf'"details":\{{(?:{name}:{value}(?:,{name}:{value}{more})?+)?+\}},"form":(?(1)2|1),"id":"({ID.pattern})",'
        rf'"ip":(?:null|{text}),"occurred_at":{text},"outcome":{text},"reason":(?:null|{text}),'
        rf'"resource":\{{"id":{text},"type":{text}\}},"tenant":"{re.escape(tenant)}","trace_id":{text},'
        rf'"workspace":(?:null|{text})\}}'
    )
    return re.compile(f"^{event}\n".encode(), re.MULTILINE)


def main(path: str, offset: str, start: str, stop: str, tenant: str) -> None:
    part = read_part(Path(path), offset=int(offset), start=int(start), stop=int(stop), tenant=tenant)
    sys.stdout.buffer.write(part.to_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
