"""Documents of images as questions to z3, each whether one regular expression matches any text.

The text is that of the checks, `registry/repository tag`. Which digest stands beside it is tried one by one: there are
but those that the documents name, any other, and none.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

from tenantry.engines.rules.images import ImageGlob, ImageRules
from tenantry.kit.image_references import HUB, HUB_NAMES

Question = tuple[list[Any], Callable[[Any], str]]


def image_questions(z3: ModuleType, old: ImageRules, new: ImageRules) -> Iterator[Question]:
    """Give the questions that have no model exactly when `new` allows nothing that `old` denies."""
    named = sorted({glob.digest for glob in (*old.globs, *new.globs) if glob.digest})
    other = f"sha256:{hashlib.sha256(repr(named).encode()).hexdigest()}"
    text = z3.String("text")
    for digest in ("", other, *named):
        if new.require_digest and not digest:
            continue
        terms = _Expressions(z3, digest)
        for expression in terms.newly_allowed(old, new):
            yield [z3.InRe(text, expression)], _reader(text, digest)


def _reader(text: Any, digest: str) -> Callable[[Any], str]:
    def read(model: Any) -> str:
        name, _, tag = model.eval(text, model_completion=True).as_string().partition(" ")
        return f"{name}{tag and ':'}{tag}{digest and '@'}{digest}"

    return read


@dataclass
class _Expressions:
    """Regular expressions over `registry/repository tag`, where `digest` stands beside it; empty for none."""

    z3: ModuleType
    digest: str

    def newly_allowed(self, old: ImageRules, new: ImageRules) -> Iterator[Any]:
        """Give one expression for each reason of `old` to deny, of what `new` does not deny."""
        z3 = self.z3
        blocked = [self._glob(glob, blocks=True) for glob in new.globs[new.allowed :] if self._concerns(glob)]
        if new.forbid_unpinned and not self.digest:
            blocked.append(self._unpinned)
        passed = z3.Diff(self._texts, self._either(blocked)) if blocked else self._texts
        within = [glob for glob in new.globs[: new.allowed] if self._concerns(glob, allows=True)]
        denied = [self._glob(glob, blocks=True) for glob in self._unblocked(old, new)]
        if old.forbid_unpinned and not new.forbid_unpinned and not self.digest:
            denied.append(self._unpinned)
        if old.require_digest and not self.digest:
            denied = [self._texts]
        for allowed in [z3.Intersect(passed, self._glob(glob)) for glob in within] or [passed] * (not new.allowed):
            yield from (z3.Intersect(allowed, reason) for reason in denied)
        if old.allowed:
            yield from self._beyond(passed, old.globs[: old.allowed], new.globs[: new.allowed])

    def _unblocked(self, old: ImageRules, new: ImageRules) -> list[ImageGlob]:
        blocked = new.globs[new.allowed :]
        return [glob for glob in old.globs[old.allowed :] if glob not in blocked and self._concerns(glob)]

    def _beyond(self, passed: Any, old: Sequence[ImageGlob], new: Sequence[ImageGlob]) -> Iterator[Any]:
        """Give what passes on the list `new`, or without one, and is not on the list `old`."""
        known = [glob for glob in old if self._concerns(glob, allows=True)]
        if not new:
            yield self.z3.Diff(passed, self._either([self._glob(glob) for glob in known])) if known else passed
        for glob in new:
            if glob in old or not self._concerns(glob, allows=True):
                continue
            within = self.z3.Intersect(passed, self._glob(glob))
            near = [self._glob(other) for other in known if _may_meet(glob, other)]
            yield self.z3.Diff(within, self._either(near)) if near else within

    def _concerns(self, glob: ImageGlob, *, allows: bool = False) -> bool:
        """Tell whether a glob can match beside this digest; a tag that allows must stand alone."""
        if glob.digest is not None:
            return glob.digest == self.digest
        return not (allows and self.digest and glob.tag not in {None, "*"})

    def _glob(self, glob: ImageGlob, *, blocks: bool = False) -> Any:
        name = self._stars(glob.name)
        if glob.registry is not None:
            name = self.z3.Concat(self._stars(glob.registry, past_slash=False), self.z3.Re("/"), name)
        any_tag = glob.digest is not None or glob.tag is None
        return self.z3.Concat(name, self.z3.Re(" "), self._stars("*" if any_tag else glob.tag or "", any_case=blocks))

    def _stars(self, text: str, *, any_case: bool = False, past_slash: bool = True) -> Any:
        z3 = self.z3
        one = z3.Diff(self._any, z3.Union(z3.Re(" "), z3.Re(" " if past_slash else "/")))
        parts: list[Any] = []
        for part in re.split(r"([*?])", text):
            if part in {"*", "?"}:
                parts.append(z3.Star(one) if part == "*" else one)
            elif any_case:
                parts += [self._either([z3.Re(case) for case in {letter.lower(), letter.upper()}]) for letter in part]
            elif part:
                parts.append(z3.Re(part))
        return z3.Concat(*parts) if len(parts) > 1 else parts[0] if parts else z3.Re("")

    def _either(self, expressions: Sequence[Any]) -> Any:
        return self.z3.Union(*expressions) if len(expressions) > 1 else expressions[0]

    @cached_property
    def _any(self) -> Any:
        return self.z3.AllChar(self.z3.ReSort(self.z3.StringSort()))

    @cached_property
    def _unpinned(self) -> Any:
        return self.z3.Concat(self.z3.Star(self._any), self.z3.Re(" "), self._stars("latest", any_case=True))

    @cached_property
    def _texts(self) -> Any:
        """What the references are that `parse_reference` leaves; of their lengths nothing is said."""
        z3 = self.z3
        first = z3.Union(z3.Range("a", "z"), z3.Range("A", "Z"), z3.Range("0", "9"), z3.Re("_"))
        tag = z3.Concat(first, z3.Star(z3.Union(first, z3.Re("."), z3.Re("-"))))
        return z3.Concat(self._names, z3.Re(" "), z3.Option(tag) if self.digest else tag)

    @cached_property
    def _names(self) -> Any:
        z3 = self.z3
        plain = z3.Union(z3.Range("a", "z"), z3.Range("0", "9"))
        between = z3.Union(z3.Re("."), z3.Re("_"), z3.Re("__"), z3.Plus(z3.Re("-")))
        component = z3.Concat(z3.Plus(plain), z3.Star(z3.Concat(between, z3.Plus(plain))))
        below = z3.Concat(z3.Re("/"), component)
        label = z3.Concat(plain, z3.Option(z3.Concat(z3.Star(z3.Union(plain, z3.Re("-"))), plain)))
        port = z3.Concat(z3.Re(":"), z3.Loop(z3.Range("0", "9"), 1, 5))
        dotted = z3.Concat(label, z3.Plus(z3.Concat(z3.Re("."), label)), z3.Option(port))
        single = z3.Union(z3.Re("localhost"), z3.Concat(label, port))
        no_other = z3.Union(*(z3.Re(name) for name in sorted(HUB_NAMES)), z3.Concat(z3.Star(self._any), z3.Re(":443")))
        registry = z3.Diff(z3.Union(dotted, single), no_other)
        on_hub = z3.Concat(z3.Re(HUB), below, z3.Plus(below))
        return z3.Union(on_hub, z3.Concat(registry, z3.Plus(below)))


def _may_meet(glob: ImageGlob, other: ImageGlob) -> bool:
    """Tell apart what differs before its first star: most globs, and not worth z3's time."""
    heads = [
        re.split(r"[*?]", one.name if one.registry is None else f"{one.registry}/{one.name}", maxsplit=1)[0]
        for one in (glob, other)
    ]
    return heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])
