"""Documents of images as terms of z3: a name, a tag, and which digest stands beside them.

Each way in which an image could be newly allowed is a question of its own: most are over before strings come in.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any

from tenantry.engines.rules.images import ImageGlob, ImageRules
from tenantry.engines.rules.references import HUB, HUB_NAMES

Question = tuple[list[Any], Callable[[Any], str]]


def image_questions(z3: ModuleType, old: ImageRules, new: ImageRules) -> Iterator[Question]:
    """Give the questions that have no model exactly when `new` allows nothing that `old` denies."""
    digests = sorted({glob.digest for glob in (*old.globs, *new.globs) if glob.digest})
    digests.append(f"sha256:{hashlib.sha256(repr(digests).encode()).hexdigest()}")  # any other
    terms = _Terms(z3, digests)
    passed = terms.passed(new)
    allowed = [*passed, z3.Or(*map(terms.allows, new.globs[: new.allowed]))] if new.allowed else passed
    old_allowed, old_blocked = old.globs[: old.allowed], old.globs[old.allowed :]
    if old.require_digest and not new.require_digest:
        yield [*allowed, terms.digest == 0], terms.read
    if old.forbid_unpinned and not new.forbid_unpinned:
        yield [*allowed, terms.unpinned()], terms.read
    for glob in old_blocked:
        if glob not in new.globs[new.allowed :]:
            yield [*allowed, terms.blocks(glob)], terms.read
    if not old.allowed:
        return
    if not new.allowed:
        yield [*passed, *(z3.Not(terms.allows(glob)) for glob in old_allowed)], terms.read
    for glob in new.globs[: new.allowed]:
        if glob not in old_allowed:
            refused = [z3.Not(terms.allows(other)) for other in old_allowed if _may_meet(glob, other)]
            yield [*passed, terms.allows(glob), *refused], terms.read


def _may_meet(glob: ImageGlob, other: ImageGlob) -> bool:
    """Tell apart what differs before its first star: most globs, and not worth z3's time."""
    heads = [
        re.split(r"[*?]", one.name if one.registry is None else f"{one.registry}/{one.name}", maxsplit=1)[0]
        for one in (glob, other)
    ]
    return heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])


@dataclass
class _Terms:
    """`digest` is 0 for none, else the place in `digests`, from 1."""

    z3: ModuleType
    digests: list[str]
    name: Any = field(init=False)
    tag: Any = field(init=False)
    digest: Any = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.tag = self.z3.String("name"), self.z3.String("tag")
        self.digest = self.z3.Int("digest")

    def passed(self, rules: ImageRules) -> list[Any]:
        """Give terms for what is a reference, and that the rules do not deny but for their list of allowed ones."""
        z3 = self.z3
        terms = [self.digest >= 0, self.digest <= len(self.digests), z3.InRe(self.name, self._names)]
        terms.append(z3.Or(z3.InRe(self.tag, self._tags), z3.And(self.tag == "", self.digest > 0)))
        terms += [z3.Not(self.blocks(glob)) for glob in rules.globs[rules.allowed :]]
        if rules.require_digest:
            terms.append(self.digest > 0)
        if rules.forbid_unpinned:
            terms.append(z3.Not(self.unpinned()))
        return terms

    def unpinned(self) -> Any:
        return self.z3.And(self.digest == 0, self.z3.InRe(self.tag, self._glob("latest", any_case=True)))

    def allows(self, glob: ImageGlob) -> Any:
        name = self._named(glob)
        if glob.digest is not None:
            return self.z3.And(name, self.digest == self.digests.index(glob.digest) + 1)
        if glob.tag in {None, "*"}:
            return name
        return self.z3.And(name, self.digest == 0, self.z3.InRe(self.tag, self._glob(glob.tag or "")))

    def blocks(self, glob: ImageGlob) -> Any:
        name = self._named(glob)
        if glob.digest is not None:
            return self.z3.And(name, self.digest == self.digests.index(glob.digest) + 1)
        if glob.tag in {None, "*"}:
            return name
        return self.z3.And(name, self.z3.InRe(self.tag, self._glob(glob.tag or "", any_case=True)))

    def read(self, model: Any) -> str:
        """Write the reference of a model."""
        name, tag = (model.eval(term, model_completion=True).as_string() for term in (self.name, self.tag))
        digest = model.eval(self.digest, model_completion=True).as_long()
        text = f"{name}:{tag}" if tag else str(name)
        return f"{text}@{self.digests[digest - 1]}" if digest else text

    def _named(self, glob: ImageGlob) -> Any:
        name = self._glob(glob.name)
        if glob.registry is not None:
            name = self.z3.Concat(self._glob(glob.registry, past_slash=False), self.z3.Re("/"), name)
        return self.z3.InRe(self.name, name)

    def _glob(self, text: str, *, any_case: bool = False, past_slash: bool = True) -> Any:
        z3 = self.z3
        one = self._any if past_slash else z3.Diff(self._any, z3.Re("/"))
        parts: list[Any] = []
        for part in re.split(r"([*?])", text):
            if part in {"*", "?"}:
                parts.append(z3.Star(one) if part == "*" else one)
            elif any_case:
                parts += [self._either(character) for character in part]
            elif part:
                parts.append(z3.Re(part))
        return z3.Concat(*parts) if len(parts) > 1 else parts[0] if parts else z3.Re("")

    def _either(self, character: str) -> Any:
        lower, upper = character.lower(), character.upper()
        return self.z3.Re(lower) if lower == upper else self.z3.Union(self.z3.Re(lower), self.z3.Re(upper))

    @cached_property
    def _any(self) -> Any:
        return self.z3.AllChar(self.z3.ReSort(self.z3.StringSort()))

    @cached_property
    def _tags(self) -> Any:
        z3 = self.z3
        first = z3.Union(z3.Range("a", "z"), z3.Range("A", "Z"), z3.Range("0", "9"), z3.Re("_"))
        return z3.Concat(first, z3.Star(z3.Union(first, z3.Re("."), z3.Re("-"))))

    @cached_property
    def _names(self) -> Any:
        """Registry and repository as `parse_reference` leaves them; of their lengths nothing is said."""
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
