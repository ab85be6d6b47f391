"""Which commands may not run: globs over shell text, and patterns (RE2). A guard rail, no boundary: see README.md."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tenantry.engines.rules.errors import Unjudged
from tenantry.engines.rules.matching import PatternError, TextSet, escaped, require_pattern
from tenantry.engines.rules.members import Members, spelled
from tenantry.engines.rules.shell_unfold import SHELLS, WRAPPERS, Pipeline, plain_text, unfold
from tenantry.engines.rules.types import EMPTY, Effect, Finding, JobFacts, Verdict, deny

_MEMBERS: Final = ("applies_to", "blocked_commands", "blocked_patterns")
_SYNTAX: Final = re.compile(r"[;&()<>{}`$\n'\"\\]")
_SPACE: Final = re.compile(r"\s+")
# A pattern that matches a word matches what the word stands in, too, so the words need not be looked at one by one.
_ANYWHERE: Final = re.compile(r"\.\*[^|^$\\()?]*\.\*")
_REMEDY: Final = "Use a command that this does not match."
_WRAPPED: Final = "\x01"  # stands before a program that runs another
_STAGE: Final = f"(?:{_WRAPPED}(?:[^|]* )?)?"
# Options that mean the same, for programs people forbid by their options.
_SAME: Final = {
    "rm": {"--recursive": "-r", "-R": "-r", "--force": "-f", "--dir": "-d", "--verbose": "-v"},
    "chmod": {"--recursive": "-R"},
    "chown": {"--recursive": "-R"},
    "git": {"--force": "-f"},
}


class Words(NamedTuple):
    """A command without order: its options one by one, and what it is done to."""

    options: frozenset[str]
    operands: frozenset[str]


class Literal(NamedTuple):
    """A glob without `*`: names a program and words it must have, whatever else it has."""

    rule: int
    words: Words


@dataclass(frozen=True, slots=True)
class CommandRules:
    """`rules` names the globs, then the patterns; `literals` are by program.

    `piped` match a pipeline's text, `squeezed` a script's without white space, `whole` single words; `plain` is `piped`
    and `patterns` in one. Each tells numbers of its `…_rules`.
    """

    rules: tuple[str, ...]
    globs: int
    literals: Mapping[str, tuple[Literal, ...]]
    piped: TextSet
    piped_rules: tuple[int, ...]
    squeezed: TextSet
    squeezed_rules: tuple[int, ...]
    patterns: TextSet
    whole: TextSet
    whole_rules: tuple[int, ...]
    plain: TextSet
    plain_rules: tuple[int, ...]

    def check_job(self, facts: JobFacts) -> Verdict:
        return self.check(facts.command)

    def check(self, argv: Sequence[str]) -> Verdict:
        """Judge a command as the words it will be started with; none starts nothing."""
        if not argv:
            return EMPTY
        try:
            text = plain_text(argv)
            found = self._found(argv) if text is None else self._found_plain(argv, text)
        except Unjudged as error:
            return deny("command", f"The command cannot be judged: it {error}.", "Write it shorter, or as a file.")
        if not found:
            return EMPTY
        said = " ".join(argv)
        said = said if len(said) <= 200 else f"{said[:200]}…"  # noqa: PLR2004 - as much as a reader takes in
        message = f"{said!r} is blocked."
        return Verdict(tuple(Finding(self.rules[rule], Effect.DENY, message, _REMEDY) for rule in sorted(set(found))))

    def _found_plain(self, argv: Sequence[str], text: str) -> list[int]:
        """Look where there is only one program and one text, in which no rule that has syntax can be."""
        found = [self.plain_rules[rule] for rule in self.plain.match(text)]
        if argv[0] in self.literals:
            found += self._literals(argv[:1], argv)
        return found + self._whole(argv) if self.whole_rules else found

    def _found(self, argv: Sequence[str]) -> list[int]:
        pipelines, texts = unfold(argv)
        found = self._whole(argv)
        shown = dict.fromkeys(texts)
        for pipeline in pipelines:
            for program in pipeline:
                found += self._literals(program.words if program.wrapped else program.words[:1], program.words)
            if self.piped_rules:
                found += [self.piped_rules[rule] for rule in self.piped.match(_text(pipeline))]
            shown[" | ".join(" ".join(program.words) for program in pipeline)] = None
        for text in texts if self.squeezed_rules else ():
            found += [self.squeezed_rules[rule] for rule in self.squeezed.match(_SPACE.sub("", text))]
        for text in shown if len(self.rules) > self.globs else ():
            found += [rule + self.globs for rule in self.patterns.match(text)]
        return found

    def _whole(self, argv: Sequence[str]) -> list[int]:
        if not self.whole_rules:
            return []
        return [self.whole_rules[rule] for word in argv for rule in self.whole.match(word)]

    def _literals(self, names: Sequence[str], words: Sequence[str]) -> list[int]:
        """Look up each name at the first place it stands: what follows a later one follows the first, too."""
        found: list[int] = []
        for name in dict.fromkeys(names):
            if name in self.literals:
                options, operands = _sorted(words[words.index(name) :])
                for rule, needed in self.literals[name]:
                    if needed.options <= options and needed.operands <= operands:
                        found.append(rule)
        return found


def compile_commands(members: Members, value: Mapping[str, Any]) -> CommandRules | None:
    """Compile a document, or note its faults and give None."""
    members.mapping((), value, _MEMBERS)
    globs = members.texts((), value, "blocked_commands")
    patterns = members.texts((), value, "blocked_patterns")
    for path, pattern in patterns:
        try:
            require_pattern(pattern)
        except PatternError as error:
            members.fault(path, f"is no pattern RE2 takes: {error}")
    if members.faults:
        return None
    literals: dict[str, list[Literal]] = {}
    piped: dict[int, str] = {}
    squeezed: dict[int, str] = {}
    for rule, (_, glob) in enumerate(globs):
        text = _SPACE.sub(" ", glob).strip()
        if _SYNTAX.search(glob):
            squeezed[rule] = f".*{_stars(_SPACE.sub('', glob))}.*"
        elif "*" in text or "|" in text:
            piped[rule] = _pipeline_pattern(text)
        else:
            words = _program(text.split(" "))
            literals.setdefault(words[0], []).append(Literal(rule, _sorted(words)))
    searched = {len(globs) + at: text for at, (_, text) in enumerate(patterns)}
    whole = {rule: text for rule, text in searched.items() if not _ANYWHERE.fullmatch(text)}
    try:
        sets = [TextSet(list(one.values())) for one in (piped, squeezed, searched, whole, piped | searched)]
    except PatternError as error:
        members.fault((), str(error))
        return None
    return CommandRules(
        rules=tuple(f"{spelled(path)}: {text}" for path, text in (*globs, *patterns)),
        globs=len(globs),
        literals={name: tuple(of_it) for name, of_it in literals.items()},
        piped=sets[0],
        piped_rules=tuple(piped),
        squeezed=sets[1],
        squeezed_rules=tuple(squeezed),
        patterns=sets[2],
        whole=sets[3],
        whole_rules=tuple(whole),
        plain=sets[4],
        plain_rules=(*piped, *searched),
    )


def _pipeline_pattern(glob: str) -> str:
    """Match from the start of any program of a pipeline to the end of any word, past what only runs another."""
    stages = [_program(stage.split()) if stage.strip() else ["*"] for stage in glob.split("|")]
    behind = [f" \\| {_STAGE}{_stars(' '.join(_behind_pipe(words)))}" for words in stages]
    first = f"(?:.* \\| )?{_STAGE}{_stars(' '.join(stages[0]))}"
    if _behind_pipe(stages[0]) != stages[0]:
        first = f"(?:{first}|.*{behind[0]})"
    return f"{first}{''.join(behind[1:])}(?: .*)?"


def _program(words: list[str]) -> list[str]:
    return [words[0].rpartition("/")[2] or words[0], *words[1:]]


def _behind_pipe(words: Sequence[str]) -> list[str]:
    """Behind a pipe every shell is `sh`: each runs what it reads."""
    shells = len(words) if words[:1] and words[0] in WRAPPERS else 1
    return ["sh" if word in SHELLS else word for word in words[:shells]] + list(words[shells:])


def _stars(glob: str) -> str:
    return ".*".join(escaped(part) for part in glob.split("*"))


def _text(pipeline: Pipeline) -> str:
    if len(pipeline) == 1 and not pipeline[0].wrapped:
        return " ".join(pipeline[0].words)
    return " | ".join(
        (_WRAPPED if program.wrapped else "") + " ".join(_behind_pipe(program.words) if index else program.words)
        for index, program in enumerate(pipeline)
    )


def _sorted(words: Sequence[str]) -> Words:
    """Take a command apart: `-rf` is `-r` and `-f`, `--net=host` also `--net` and `host`, `/tmp/..` is `/`."""
    same = _SAME.get(words[0], {})
    options: set[str] = set()
    operands: set[str] = set()
    for word in words[1:]:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            options.add(same.get(name, name))
            if value:
                operands.add(value)
        elif word.startswith("-") and len(word) > 1:
            options.update(same.get(f"-{letter}", f"-{letter}") for letter in word[1:])
        else:
            operands.add(_place(word))
    return Words(frozenset(options), frozenset(operands))


def _place(word: str) -> str:
    """Write a path the short way; what stands for all in a directory counts as the directory."""
    if "/" not in word:
        return word
    whole = word.rstrip("*") if word.endswith(("/*", "/.*", "/**")) else word
    return re.sub(r"^/+", "/", posixpath.normpath(whole))
