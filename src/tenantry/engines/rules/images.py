"""Which images may run: lists of globs over completed references, digests, pinned tags."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tenantry.engines.rules.errors import Unjudged
from tenantry.engines.rules.matching import PatternError, TextSet, escaped
from tenantry.engines.rules.members import Members, Path, spelled
from tenantry.engines.rules.types import EMPTY, Effect, Finding, JobFacts, Verdict, deny
from tenantry.kit.image_references import (
    DIGEST,
    HUB,
    NoReferenceError,
    Reference,
    canonical_registry,
    names_registry,
    parse_reference,
)

_MEMBERS: Final = ("applies_to", "allowed_images", "blocked_images", "require_digest", "forbid_unpinned")
_GLOB: Final = re.compile(r"([^@]+?)(?::([^:@/]*))?(?:@([^@]+))?")
_OTHER: Final = "Use an image that this does not match."
_STAND_INS: Final = ("a", "a.a", "1")  # what a `*` may become, to see whether a glob matches any reference at all


class ImageGlob(NamedTuple):
    """`registry` None: `name` is matched against registry and repository as one text. `tag` None: any tag."""

    registry: str | None
    name: str
    tag: str | None
    digest: str | None

    def pattern(self, *, blocks: bool) -> str:
        """Write as RE2 over `subject`. Of what is allowed, a tag must be proven, so no digest may stand beside it."""
        name = _stars(self.name, "[^ ]*", "[^ ]")
        if self.registry is not None:
            name = f"{_stars(self.registry, '[^/ ]*', '[^/ ]')}/{name}"
        if self.digest is not None:
            return f"{name} [^ ]* {self.digest}"
        if self.tag in {None, "*"}:
            return f"{name} [^ ]* [^ ]*"
        tag = _stars(self.tag or "", "[^ ]*", "[^ ]")
        return f"{name} (?i:{tag}) [^ ]*" if blocks else f"{name} {tag} "


def parse_glob(text: str) -> ImageGlob:
    """Complete a glob as its references are completed. Raises NoReferenceError for one that could match none."""
    shape = _GLOB.fullmatch(text)
    if shape is None or not any(_is_reference(text, stand_in) for stand_in in _STAND_INS):
        raise NoReferenceError("matches no image: it is not registry/repository:tag@digest with `*` and `?` in it")
    name, tag, digest = shape.groups()
    first, slash, rest = name.partition("/")
    if slash and names_registry(first):
        registry = first.lower() if _starred(first) else canonical_registry(first) or first
        if registry == HUB and "/" not in rest and rest != "*":
            rest = f"library/{rest}"
        return ImageGlob(registry, rest, tag, digest)
    if name.startswith(("*", "?")):
        return ImageGlob(None, name, tag, digest)
    return ImageGlob(HUB, name if slash else f"library/{name}", tag, digest)


def subject(reference: Reference, digest: str | None = None) -> str:
    """Write what the globs are matched against: parts of a reference hold no spaces."""
    return f"{reference.registry}/{reference.repository} {reference.tag} {digest or reference.digest}"


@dataclass(frozen=True, slots=True)
class ImageRules:
    """`globs` are the allowed ones, then the blocked; `rules` their names; `matched` has both as one set."""

    globs: tuple[ImageGlob, ...]
    rules: tuple[str, ...]
    allowed: int
    require_digest: bool
    forbid_unpinned: bool
    plain: bool  # asks for nothing but the lists
    matched: TextSet
    passes: tuple[Verdict, ...]

    def check_job(self, facts: JobFacts) -> Verdict:
        return self.check(facts.image, facts.image_digest)

    def check(self, image: str, digest: str | None = None) -> Verdict:
        """Judge a reference; `digest` is that of the content it has been resolved to."""
        try:
            reference = parse_reference(image)
            found = self.matched.match(f"{reference[0]}/{reference[1]} {reference[2]} {reference[3]}")
            if self.plain and digest is None:
                return self._listed(reference, found)
            if digest is not None and not reference.digest:
                found += [rule for rule in self.matched.match(subject(reference, digest)) if rule >= self.allowed]
        except NoReferenceError as error:
            return deny("image", f"The image is no reference: {error}.", "Write registry/repository:tag or …@sha256:….")
        except Unjudged as error:
            return deny("image", f"The image cannot be judged: {error}.", "Use a shorter reference.")
        return self._verdict(reference, digest, list(set(found)))

    def _verdict(self, reference: Reference, digest: str | None, found: list[int]) -> Verdict:
        listed = self._listed(reference, found)
        pinning = self._pinning(reference, digest)
        if not pinning:
            return listed
        blocked = tuple(finding for finding in listed.findings if finding.effect is Effect.DENY)
        return Verdict((*blocked, *pinning))

    def _listed(self, reference: Reference, found: list[int]) -> Verdict:
        """Judge by the lists alone: what blocks, in order, then whether anything allows."""
        found.sort()
        if not found or found[-1] < self.allowed:
            if found:
                return self.passes[found[0]]
            return Verdict((self._not_allowed(reference),)) if self.allowed else EMPTY
        message = f"{reference} is blocked."
        findings = [Finding(self.rules[rule], Effect.DENY, message, _OTHER) for rule in found if rule >= self.allowed]
        if self.allowed and found[0] >= self.allowed:
            findings.append(self._not_allowed(reference))
        return Verdict(tuple(findings))

    def _pinning(self, reference: Reference, digest: str | None) -> list[Finding]:
        findings = []
        if digest is not None and digest != reference.digest and (reference.digest or not DIGEST.fullmatch(digest)):
            message = f"{reference} has been resolved to other content, {digest[:80]!r}."
            findings.append(Finding("image", Effect.DENY, message, "Start the content that the reference names."))
        if self.require_digest and not reference.digest:
            remedy = "Name the image by digest: repository@sha256:…."
            if reference.name == f"{HUB}/library/host":
                remedy = "`host` has no digest: use an image that has one."
            findings.append(Finding("require_digest: true", Effect.DENY, f"{reference} names no digest.", remedy))
        if self.forbid_unpinned and not reference.digest and reference.tag.lower() == "latest":
            message = f"{reference} may be other content tomorrow."
            findings.append(Finding("forbid_unpinned: true", Effect.DENY, message, "Name a version or a digest."))
        return findings

    def _not_allowed(self, reference: Reference) -> Finding:
        remedy = "Use an image that the list has."
        if reference.digest and self.matched.match(subject(reference._replace(digest=""))):
            remedy = "A tag beside a digest proves nothing: the list must have the digest, or any tag (`name:*`)."
        return Finding("allowed_images", Effect.DENY, f"{reference} is not on the list of allowed images.", remedy)


def compile_images(members: Members, value: Mapping[str, Any]) -> ImageRules | None:
    """Compile a document, or note its faults and give None."""
    members.mapping((), value, _MEMBERS)
    if value.get("allowed_images") == []:
        members.fault(("allowed_images",), "allows nothing: leave it out to allow every image, or block '*'")
    allowed = _globs(members, value, "allowed_images")
    blocked = _globs(members, value, "blocked_images")
    require = members.flag((), value, "require_digest")
    forbid = members.flag((), value, "forbid_unpinned")
    if members.faults:
        return None
    patterns = [glob.pattern(blocks=False) for _, glob in allowed] + [glob.pattern(blocks=True) for _, glob in blocked]
    try:
        matched = TextSet(patterns)
    except PatternError as error:
        members.fault((), str(error))
        return None
    rules = tuple(rule for rule, _ in (*allowed, *blocked))
    passes = tuple(
        Verdict((Finding(rule, Effect.ALLOW, "The image is on the list of allowed images."),))
        for rule in rules[: len(allowed)]
    )
    globs = tuple(glob for _, glob in (*allowed, *blocked))
    return ImageRules(globs, rules, len(allowed), require, forbid, not (require or forbid), matched, passes)


def _globs(members: Members, value: Mapping[str, Any], name: str) -> list[tuple[str, ImageGlob]]:
    read: list[tuple[str, ImageGlob]] = []
    seen: dict[ImageGlob, Path] = {}
    for path, text in members.texts((), value, name):
        try:
            glob = parse_glob(text)
        except NoReferenceError as error:
            members.fault(path, str(error))
            continue
        if glob in seen:
            members.fault(path, f"means the same as {spelled(seen[glob])}")
        seen.setdefault(glob, path)
        read.append((f"{spelled(path)}: {text}", glob))
    return read


def _starred(text: str) -> bool:
    return "*" in text or "?" in text


def _stars(text: str, many: str, one: str) -> str:
    return "".join({"*": many, "?": one}.get(part) or escaped(part) for part in re.split(r"([*?])", text))


def _is_reference(glob: str, stand_in: str) -> bool:
    try:
        parse_reference(glob.replace("*", stand_in).replace("?", stand_in[0]))
    except NoReferenceError:
        return False
    return True
