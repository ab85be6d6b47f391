"""From the words of a command to every pipeline that can be seen in it, however it has been wrapped."""

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import Final, NamedTuple

from tenantry.engines.rules.errors import Unjudged
from tenantry.engines.rules.shell_text import MAX_TEXT, Reader, Stage, unescaped

MAX_DEPTH: Final = 8
MAX_PROGRAMS: Final = 4096
SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ash", "ksh", "mksh", "rbash"})
# They run what their words name. Some have options with values, so the program is sought in all that follows.
WRAPPERS: Final = frozenset(
    {"sudo", "doas", "env", "nohup", "nice", "ionice", "timeout", "time", "exec", "command", "builtin", "stdbuf",
     "setsid", "busybox", "toybox", "xargs", "chroot", "unshare", "nsenter", "setarch", "taskset", "chrt", "watch",
     "parallel", "find", "flock", "runuser", "setpriv", "strace", "script", "unbuffer", "eval"}
)  # fmt: skip
_READS_CODE: Final = SHELLS | {"eval", "source", "."}
_SAYS: Final = frozenset({"echo", "printf", "cat"})
_USUAL: Final = re.compile(r"[A-Za-z0-9_.:@,+%^-]+(?:\x1f[A-Za-z0-9_./:@,+%=^\x1f-]*)?")  # its first word is no path
_WORD: Final = re.compile(r"[A-Za-z0-9_./:@,+%=^-]*")
_TAKES_SCRIPT: Final = re.compile(r"-[A-Za-z]*c")
_SAYING: Final = re.compile(r"-[neE]*-?")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")


class Program(NamedTuple):
    """A program with its words. `wrapped`: the first word runs others, one of which is meant."""

    words: tuple[str, ...]
    wrapped: bool


Pipeline = tuple[Program, ...]


class Unfolded(NamedTuple):
    """`texts` are the scripts as they were written, the whole command first."""

    pipelines: list[Pipeline]
    texts: list[str]


def plain_text(argv: Sequence[str]) -> str | None:
    """Give the text of a command in which nothing can be hidden: one program, of words without any syntax."""
    joined = "\x1f".join(argv)
    if "64" in joined or "c\x1f" in joined or not _USUAL.fullmatch(joined) or argv[0] in WRAPPERS:
        return None
    return joined.replace("\x1f", " ")


def unfold(argv: Sequence[str]) -> Unfolded:
    """Find every pipeline in a command. Raises Unjudged where it is larger or deeper than is looked through."""
    return _Unfolding().command(argv)


@dataclass(slots=True)
class _Unfolding:
    pipelines: list[Pipeline] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    seen: set[tuple[str, bool]] = field(default_factory=set)
    waiting: list[tuple[str, int, tuple[str, ...], bool]] = field(default_factory=list)
    spent: int = 0
    programs: int = 0

    def command(self, argv: Sequence[str]) -> Unfolded:
        words = [_plain_text(word) for word in argv]
        self._spend(sum(map(len, words)))
        self.texts.append(" ".join(words))
        while words and "=" in words[0]:  # `env`-less assignments mean nothing without a shell, and hide nothing
            words.pop(0)
        self._pipeline([Stage(words)], depth=0, fed=False)
        while self.waiting:
            text, depth, parameters, fed = self.waiting.pop()
            self._script(text, depth, parameters, fed=fed)
        return Unfolded(self.pipelines, self.texts)

    def _script(self, text: str, depth: int, parameters: tuple[str, ...], *, fed: bool) -> None:
        if depth > MAX_DEPTH:
            raise Unjudged(f"is nested deeper than {MAX_DEPTH} levels")
        self._spend(len(text))
        self.texts.append(text)
        variables = {"IFS": " "} | {str(n): word for n, word in enumerate(parameters[:10])}
        variables |= dict.fromkeys("@*", " ".join(parameters[1:]))
        reader = Reader(text, variables)
        for stages in reader.read():
            self._pipeline(stages, depth, fed=fed)
        self._spend(max(0, reader.size - len(text)))

    def _pipeline(self, stages: list[Stage], depth: int, *, fed: bool) -> None:
        programs = [_program(tuple(stage.words)) for stage in stages]
        self.programs += len(programs)
        if self.programs > MAX_PROGRAMS:
            raise Unjudged(f"runs more than {MAX_PROGRAMS} programs")
        if fed:
            programs.append(Program(("sh",), wrapped=False))
        if any(program.words for program in programs):
            self.pipelines.append(tuple(programs))
        for index, (stage, program) in enumerate(zip(stages, programs, strict=False)):
            runs = not program.words or not program.words[0] or _names(program, _READS_CODE)
            for inner in stage.inner:
                self._await(inner, depth, (), fed=runs)
            for text in (*stage.inputs, *_nested(stage.words)):
                self._await(text, depth, (), fed=False)
            for at, word in enumerate(stage.words):
                if not _WORD.fullmatch(word) or (at and _TAKES_SCRIPT.fullmatch(stage.words[at - 1])):
                    self._await(word, depth, tuple(stage.words[at + 1 :]), fed=False)
            if _names(program, _SAYS) and any(_names(later, _READS_CODE) for later in programs[index + 1 :]):
                said = " ".join(dropwhile(_SAYING.fullmatch, stage.words[1:]))
                self._await(said, depth, (), fed=False)
                self._await(unescaped(said), depth, (), fed=False)

    def _await(self, text: str, depth: int, parameters: tuple[str, ...], *, fed: bool) -> None:
        if (text, fed) not in self.seen:
            self.seen.add((text, fed))
            self.waiting.append((text, depth + 1, parameters, fed))

    def _spend(self, characters: int) -> None:
        self.spent += characters
        if self.spent > MAX_TEXT:
            raise Unjudged(f"unfolds to more than {MAX_TEXT} characters")


def _program(words: tuple[str, ...]) -> Program:
    """Name programs without their directories."""
    first = words[0].rpartition("/")[2] if words else ""
    if first in WRAPPERS:
        rest = (word.rpartition("/")[2] if "bin/" in word else word for word in words[1:])
        return Program((first, *rest), wrapped=True)
    return Program((first, *words[1:]) if words and first != words[0] else words, wrapped=False)


def _names(program: Program, names: frozenset[str]) -> bool:
    return any(word in names for word in (program.words if program.wrapped else program.words[:1]))


def _nested(words: Sequence[str]) -> Iterator[str]:
    """Give what the words hold in base64, if it is text."""
    for word in words:
        for found in _BASE64.findall(word):
            standard = found.rstrip("=").replace("-", "+").replace("_", "/")
            try:
                text = base64.b64decode(standard + "=" * (-len(standard) % 4)).decode()
            except (binascii.Error, UnicodeDecodeError):
                continue
            if all(character.isprintable() or character.isspace() for character in text):
                yield text


def _plain_text(word: str) -> str:
    """Write characters that only look different as the ones they look like, and leave out those that do not show."""
    if word.isascii():
        return word
    folded = unicodedata.normalize("NFKC", word)
    return "".join(character for character in folded if unicodedata.category(character) != "Cf")
