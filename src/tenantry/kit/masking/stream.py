"""The masking itself: bytes in pieces, as they come, give the same result however they are cut."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tenantry.kit.masking.formats import FORMATS, SHORTEST_BYTES, UNTIL_BYTES, KeyFormat
from tenantry.kit.masking.known import pieces_of

MASKED: Final = b"[masked]"
_PERCENT: Final = ord("%")
_ESCAPE_BYTES: Final = 3
_PREFIXES: Final = re.compile("|".join(re.escape(prefix.decode()) for form in FORMATS for prefix in form.prefixes))
_BEGINNINGS: Final = frozenset(
    prefix[:n] for form in FORMATS for prefix in form.prefixes for n in range(1, len(prefix))
)
_LONGEST_BEGINNING: Final = max(map(len, _BEGINNINGS))
_TORN_VALUE: Final = 4
_TORN_KEY: Final = 8
"""What the end of the output has torn is masked from so many bytes on."""

Span = tuple[int, int]


@dataclass(slots=True)
class _Reach:
    """How far a key of some form goes; `goes_on` at the end of what has come, at most to `limit`.

    `at` is where its prefix is, -1 before what is held; `start` where it is masked from.
    """

    at: int
    start: int
    end: int
    goes_on: bool
    limit: int


class Mask:
    """What to mask besides the key formats; makes a Masker for each stream."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._pieces = pieces_of(known)

    def stream(self) -> "Masker":
        return Masker(self._pieces)

    def text(self, text: str) -> str:
        """Mask a text that is whole."""
        if not self._pieces and (len(text) < SHORTEST_BYTES or not _PREFIXES.search(text)):
            return text
        masker = Masker(self._pieces)
        raw = text.encode(errors="surrogatepass")
        return (masker.feed(raw) + masker.finish()).decode(errors="surrogatepass")

    def __repr__(self) -> str:
        return f"<Mask of {len(self._pieces)} pieces>"


class Masker:
    """One stream. Holds back only what may still turn out to be (part of) a secret: a few hundred bytes at most.

    Each stretch that secrets cover, however many they are, becomes one `[masked]`.
    """

    def __init__(self, pieces: tuple[bytes, ...] = ()) -> None:
        self._pieces = pieces
        self._held = b""
        self._before = b""
        """The last three bytes before what is held."""
        self._spans: list[Span] = []
        """What is masked already of the held bytes, and of those to come."""
        self._masking = False
        """Whether the byte before what is held was masked, so that its mark has been written."""
        self._reaches: dict[KeyFormat, _Reach] = {}

    def feed(self, piece: bytes) -> bytes:
        """Take more; gives what is certain."""
        self._held += piece
        return self._pass(final=False)

    def finish(self) -> bytes:
        """Give the rest; what was torn in the middle of a secret is masked."""
        return self._pass(final=True)

    def _pass(self, *, final: bool) -> bytes:
        held = self._held
        size = len(held)
        spans = list(self._spans)
        open_from = size
        for beginning in range(min(size, _LONGEST_BEGINNING), 0, -1):
            if held[-beginning:] in _BEGINNINGS:
                open_from = size - beginning
                break
        for form in FORMATS:
            open_from = min(open_from, self._find_keys(form, spans, final=final))
        for value in self._pieces:
            open_from = min(open_from, self._find_values(value, spans, final=final))
        cut = size if final else open_from
        spans = _merged(spans)
        given = self._rendered(spans, cut)
        self._advance(spans, cut)
        return given

    def _find_values(self, value: bytes, spans: list[Span], *, final: bool) -> int:
        """Note where `value` stands; gives where one begins that is not all there yet."""
        held, length = self._held, len(value)
        size = len(held)
        at = held.find(value)
        while at >= 0:
            if spans and spans[-1][0] <= at <= spans[-1][1] < at + length:
                spans[-1] = spans[-1][0], at + length
            else:
                spans.append((at, at + length))
            at = held.find(value, at + 1)
        at = held.find(value[:1], max(0, size - length + 1))
        while at >= 0:
            if value.startswith(held[at:]):
                if final and size - at >= _TORN_VALUE:
                    spans.append((at, size))
                return at
            at = held.find(value[:1], at + 1)
        return size

    def _find_keys(self, form: KeyFormat, spans: list[Span], *, final: bool) -> int:
        """Note where keys of one form stand; gives where one begins that is not certain yet."""
        held = self._held
        size = open_from = len(held)
        reach = self._resumed(form, spans)
        for prefix in form.prefixes:
            at = held.find(prefix)
            while at >= 0:
                found = self._look(form, at, reach)
                if isinstance(found, _Reach):
                    spans.append((found.start, found.end))
                    reach = found if reach is None or found.end > reach.end else reach
                elif found:
                    open_from = min(open_from, at)
                    if final and size - at - len(prefix) >= _TORN_KEY:
                        spans.append((at, size))
                at = held.find(prefix, at + 1)
        if reach is not None:
            self._reaches[form] = reach
            if reach.goes_on and form.until:
                open_from = min(open_from, max(reach.at, size - UNTIL_BYTES, 0))
        return open_from

    def _resumed(self, form: KeyFormat, spans: list[Span]) -> _Reach | None:
        """Go on with what had begun before what is held."""
        reach = self._reaches.pop(form, None)
        if reach is None:
            return None
        if reach.goes_on:
            # The match that ends it may have begun in what was held: looked for from the beginning.
            end = 0 if form.until else reach.end
            reach = self._extended(form, -1, reach.start, end, limit=reach.limit)
        spans.append((reach.start, reach.end))
        return reach

    def _look(self, form: KeyFormat, at: int, reach: _Reach | None) -> _Reach | bool:
        """Look at a prefix: a key and its reach, or whether it may become one."""
        held = self._held
        if form.until and reach is not None and at < reach.end:
            return False
        if form.apart and self._adjoins(form.apart, at):
            return False
        match = form.shape.match(held, at)
        if match is None:
            return form.partial.match(held, at) is not None
        start, end = match.start(match.lastindex or 0), match.end()
        if form.until is None and reach is not None and reach.at <= at and end <= reach.end:
            return _Reach(at, start, reach.end, reach.goes_on, 0)  # in the same run, which is not walked again
        return self._extended(form, at, start, end, limit=end + form.most)

    def _adjoins(self, neighbours: frozenset[int], at: int) -> bool:
        """Say whether one of these bytes stands before; the digits of a percent escape do not count."""
        before = (self._before + self._held[max(0, at - _ESCAPE_BYTES) : at])[-_ESCAPE_BYTES:]
        escape = len(before) == _ESCAPE_BYTES and before[0] == _PERCENT
        return bool(before) and before[-1] in neighbours and not escape

    def _extended(self, form: KeyFormat, at: int, start: int, end: int, *, limit: int) -> _Reach:
        held = self._held
        size = len(held)
        if form.until is None:
            run = form.tail.match(held, end)
            end = run.end() if run else end
            return _Reach(at, start, end, end == size, 0)
        match = form.until.search(held, end, min(size, limit))
        if match:
            return _Reach(at, start, match.end(), goes_on=False, limit=limit)
        return _Reach(at, start, min(size, limit), size < limit, limit)

    def _rendered(self, spans: list[Span], cut: int) -> bytes:
        """Write what lies before `cut`, each covered stretch as one mark."""
        held, parts, at, masking = self._held, [], 0, self._masking
        for start, end in spans:
            if start >= cut:
                break
            if start > at:
                parts.append(held[at:start])
                masking = False
            if not masking:
                parts.append(MASKED)
                masking = True
            at = end
        if at < cut:
            parts.append(held[at:cut])
            masking = False
        if cut:
            self._masking = masking
        return b"".join(parts)

    def _advance(self, spans: list[Span], cut: int) -> None:
        self._before = (self._before + self._held[max(0, cut - _ESCAPE_BYTES) : cut])[-_ESCAPE_BYTES:]
        self._spans = [(max(0, start - cut), end - cut) for start, end in spans if end > cut]
        self._held = self._held[cut:]
        kept = {}
        for form, reach in self._reaches.items():
            # One whose prefix is still held is found again.
            if reach.at < cut and (reach.goes_on or reach.end > cut):
                limit = reach.limit - cut
                kept[form] = _Reach(-1, max(0, reach.start - cut), reach.end - cut, reach.goes_on, limit)
        self._reaches = kept


def _merged(spans: list[Span]) -> list[Span]:
    """Sort and join what touches; what is empty goes."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if end <= start:
            continue
        if found and start <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found
