"""Reads shell text far enough to see which programs it names with which words. It is no shell: it runs nothing.

Quotes, escapes, variables that the text itself sets, braces, here-documents and substitutions are followed. What only
a run could tell (the output of a program, a file's content) reads as nothing.
"""

import re
import sys
from dataclasses import dataclass, field
from typing import Final

from tenantry.engines.rules.errors import Unjudged

MAX_TEXT: Final = 1 << 17  # characters read for one command, however nested
_MAX_BRACES: Final = 64

_PLAIN: Final = re.compile(r"[^\s\\'\"$`;&|<>(){}#]+")
_NAME: Final = re.compile(r"[A-Za-z_]\w*|[0-9]|[@*#?$!-]", re.ASCII)
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.ASCII | re.DOTALL)
_EXPANSION: Final = re.compile(r"!?([A-Za-z_]\w*|[0-9]+|[@*#?$!-])(?:(:?[-=+])(.*)|.*)", re.ASCII | re.DOTALL)
_BRACES: Final = re.compile(r"([^{}]*)\{([^{}]*,[^{}]*)\}(.*)", re.DOTALL)
_LITERAL_OUTPUT: Final = re.compile(r"\s*(?:echo|printf)(?:\s+-[neE]+)*\s+([\w./ %-]+?)\s*", re.ASCII)
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,6})|0?([0-7]{1,3})|(.))", re.DOTALL
)
_SURROGATES: Final = range(0xD800, 0xE000)
_LETTERS: Final = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "e": "\x1b",
    "E": "\x1b",
}
_RESERVED: Final = frozenset(
    {"if", "then", "elif", "else", "fi", "while", "until", "do", "done", "case", "esac", "for", "in", "!", "{", "}",
     "time", "coproc", "function"}
)  # fmt: skip
_DECLARING: Final = frozenset({"export", "declare", "local", "readonly", "typeset"})


@dataclass(slots=True)
class Stage:
    """One program of a pipeline. `inputs` are texts it is given to read, `inner` those whose output is in its words."""

    words: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Reader:
    """`variables` are those the text sets, changed while it is read. `pipelines` is the result."""

    text: str
    variables: dict[str, str]
    at: int = 0
    pipelines: list[list[Stage]] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    stage: Stage = field(default_factory=Stage)
    word: list[str] | None = None
    braced: bool = False
    redirected: str = ""
    awaited: list[tuple[str, Stage]] = field(default_factory=list)  # here-documents that begin on the next line
    size: int = 0

    def read(self) -> list[list[Stage]]:
        steps = {
            "\\": self._escape, "'": self._single, '"': self._double, "$": self._dollar, "`": self._backtick,
            "|": self._bar, "&": self._ampersand, "<": self._less, ">": self._greater, "\n": self._newline,
        }  # fmt: skip
        text = self.text
        while self.at < len(text):
            if plain := _PLAIN.match(text, self.at):
                self._add(plain[0])
                self.at = plain.end()
                continue
            character = text[self.at]
            self.at += 1
            if step := steps.get(character):
                step()
            elif character in ";()":
                self.end_pipeline()
            elif character in "{}":
                self.braced |= character == "{"
                self._add(character)
            elif character == "#":
                self._hash()
            else:
                self.end_word()
        self.end_pipeline()
        return self.pipelines

    def _add(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_TEXT:
            raise Unjudged(f"unfolds to more than {MAX_TEXT} characters")
        if self.word is None:
            self.word = []
        self.word.append(text)

    def end_word(self) -> None:
        if self.word is None:
            return
        word, self.word = "".join(self.word), None
        braced, self.braced = self.braced, False
        if self.redirected:
            kind, self.redirected = self.redirected, ""
            if kind == "<<<":
                self.stage.inputs.append(word)
            elif kind == "<<":
                self.awaited.append((word, self.stage))
            return
        for one in _unbraced(word) if braced else [word]:
            self._place(one)

    def _place(self, word: str) -> None:
        """Put a word into its stage, or note the variable it sets."""
        words = self.stage.words
        if not words and word in _RESERVED:
            return
        if not words or words[0] in _DECLARING:
            assignment = _ASSIGNMENT.fullmatch(word)
            if assignment:
                name, more, value = assignment.groups()
                self.variables[name] = self.variables.get(name, "") + value if more else value
                return
        words.append(word)

    def end_stage(self) -> None:
        self.end_word()
        if self.stage.words or self.stage.inner or self.stage.inputs:
            self.stages.append(self.stage)
        self.stage = Stage()

    def end_pipeline(self) -> None:
        self.end_stage()
        self.redirected = ""
        if self.stages:
            self.pipelines.append(self.stages)
            self.stages = []

    def _escape(self) -> None:
        following = self.text[self.at : self.at + 1]
        self.at += 1
        if following != "\n":
            self._add(following or "\\")

    def _single(self) -> None:
        end = self._find("'")
        self._add(self.text[self.at : end])
        self.at = end + 1

    def _double(self) -> None:
        self._add("")
        text = self.text
        while self.at < len(text) and text[self.at] != '"':
            character = text[self.at]
            self.at += 1
            if character == "\\":
                following = text[self.at : self.at + 1]
                self.at += 1
                self._add("" if following == "\n" else following if following in '$`"\\' else "\\" + following)
            elif character == "$":
                self._dollar(quoted=True)
            elif character == "`":
                self._backtick()
            else:
                self._add(character)
        self.at += 1

    def _dollar(self, *, quoted: bool = False) -> None:
        following = self.text[self.at : self.at + 1]
        if following == "(":
            self._substitution()
        elif following == "{":
            end = closing(self.text, self.at, "{", "}")
            self._expand(self.text[self.at + 1 : end], quoted=quoted)
            self.at = end + 1
        elif following == "'" and not quoted:
            self.at += 1
            end = self._find("'", escapes=True)
            self._add(unescaped(self.text[self.at : end]))
            self.at = end + 1
        elif following == '"' and not quoted:
            pass
        elif name := _NAME.match(self.text, self.at):
            self.at = name.end()
            self._expand(name[0], quoted=quoted)
        else:
            self._add("$")

    def _expand(self, expression: str, *, quoted: bool) -> None:
        """Put the value of a variable into the word; outside of quotes its white space ends words."""
        parts = _EXPANSION.fullmatch(expression)
        if parts is None:
            return
        name, operator, other = parts.groups("")
        value = self.variables.get(name, "")
        if operator and (value == "") != ("+" in operator):
            value = other.strip("'\"")
        if quoted:
            self._add(value)
            return
        for separator in self.variables.get("IFS", ""):
            value = value.replace(separator, " ")
        if self.redirected:  # an empty place is one, or the program behind it would be taken for the place
            self._add("")
        pieces = re.split(r"\s+", value)
        for index, piece in enumerate(pieces):
            if index:
                self.end_word()
            if piece:
                self._add(piece)

    def _substitution(self) -> None:
        end = closing(self.text, self.at, "(", ")")
        inner = self.text[self.at + 1 : end]
        self.at = end + 1
        self._inner(inner)

    def _backtick(self) -> None:
        end = self._find("`", escapes=True)
        inner = self.text[self.at : end].replace("\\`", "`")
        self.at = end + 1
        self._inner(inner)

    def _inner(self, inner: str) -> None:
        self.stage.inner.append(inner)
        told = _LITERAL_OUTPUT.fullmatch(inner)
        self._add(told[1] if told else "")

    def _bar(self) -> None:
        if self.text[self.at : self.at + 1] == "|":
            self.at += 1
            self.end_pipeline()
            return
        if self.text[self.at : self.at + 1] == "&":
            self.at += 1
        self.end_stage()

    def _ampersand(self) -> None:
        if self.text[self.at : self.at + 1] == ">":
            self.at += 1
            self._greater()
            return
        self.end_pipeline()

    def _greater(self) -> None:
        if self.text[self.at : self.at + 1] == "(":
            self._substitution()
            return
        self._redirect(">")
        while self.text[self.at : self.at + 1] in {">", "&", "|"}:
            self.at += 1

    def _less(self) -> None:
        rest = self.text[self.at : self.at + 2]
        if rest[:1] == "(":
            self._substitution()
        elif rest == "<<":
            self.at += 2
            self._redirect("<<<")
        elif rest[:1] == "<":
            self.at += 1 + (rest[1:] == "-")
            self._redirect("<<")
        else:
            self.at += rest[:1] in {"&", ">"} and bool(rest)
            self._redirect("<")

    def _redirect(self, kind: str) -> None:
        """Take the next word as a place. A number that stands right before is the descriptor, no word."""
        if self.word is not None and "".join(self.word).isdecimal():
            self.word = None
        self.end_word()
        self.redirected = kind

    def _newline(self) -> None:
        self.end_word()
        for end, stage in self.awaited:
            start = self.at
            found = re.compile(rf"^\t*{re.escape(end)}$", re.MULTILINE).search(self.text, start)
            stage.inputs.append(self.text[start : found.start() if found else None])
            self.at = min(found.end() + 1, len(self.text)) if found else len(self.text)
        self.awaited.clear()
        self.end_pipeline()

    def _hash(self) -> None:
        if self.word is not None:
            self._add("#")
            return
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def _find(self, mark: str, *, escapes: bool = False) -> int:
        """Find the end of what is quoted; text that does not end it goes to its own end."""
        at = self.at
        while at < len(self.text) and self.text[at] != mark:
            at += 2 if escapes and self.text[at] == "\\" else 1
        return min(at, len(self.text))


def closing(text: str, at: int, opens: str, closes: str) -> int:
    """Find what closes the bracket at `at`, past quotes; the end of the text if nothing does."""
    depth, quote = 0, ""
    while at < len(text):
        character = text[at]
        if character == "\\" and quote != "'":
            at += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == opens:
            depth += 1
        elif character == closes:
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return len(text)


def unescaped(text: str) -> str:
    r"""Write out `\x72`, `\162`, `\n` and their like, as `$'…'`, `printf` and `echo -e` do."""

    def one(found: re.Match[str]) -> str:
        short, four, long, octal, letter = found.groups()
        if letter is not None:
            return _LETTERS.get(letter, letter)
        number = int(short or four or long, 16) if octal is None else int(octal, 8)
        return "" if number in _SURROGATES or number > sys.maxunicode else chr(number)

    return _ESCAPE.sub(one, text)


def _unbraced(word: str) -> list[str]:
    """Write out `a{b,c}` as `ab`, `ac`."""
    words = [word]
    done: list[str] = []
    while words and len(words) + len(done) <= _MAX_BRACES:
        found = _BRACES.fullmatch(one := words.pop(0))
        if found is None:
            done.append(one)
        else:
            words = [f"{found[1]}{choice}{found[3]}" for choice in found[2].split(",")] + words
    return done + words
