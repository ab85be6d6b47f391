"""Image references as Docker reads them: what is left out is filled in, what is no reference is refused."""

import re
from typing import Final, NamedTuple

HUB: Final = "docker.io"
# Names under which the same registry answers.
HUB_NAMES: Final = frozenset(
    {HUB, "index.docker.io", "registry-1.docker.io", "registry.docker.io", "registry.hub.docker.com", "hub.docker.com"}
)
MAX_LENGTH: Final = 512
_MAX_NAME: Final = 255
_HTTPS: Final = ":443"

_SHAPE: Final = re.compile(r"([^@]+?)(?::(\w[\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?", re.ASCII)
_COMPONENT: Final = r"[a-z0-9]++(?:(?:[._]|__|-+)[a-z0-9]++)*+"
_PATH: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*+")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_REGISTRY: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?")
# What most references are, in one step: nothing to complete but the registry, the library and the tag.
_USUAL: Final = re.compile(
    rf"(?:((?=[^/]*[.:]|localhost/){_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?)/|(?![^/.:]*[.:][^/]*/|localhost/))"
    rf"({_COMPONENT}(/{_COMPONENT})*+)(?::(\w[\w.-]{{0,127}}))?(?:@(sha256:[0-9a-f]{{64}}))?",
    re.ASCII,
)
_SHORT: Final = 64  # below, neither a name is too long nor an id
_BARE_ID: Final = re.compile(r"[0-9a-f]{64}")
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class NoReferenceError(ValueError):
    """The text is no image reference; the message says why, without repeating it."""


class Reference(NamedTuple):
    """`tag` is empty beside a digest that stands alone; without either it is `latest`, as Docker has it."""

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        registry, repository, tag, digest = self
        text = f"{registry}/{repository}:{tag}" if tag else f"{registry}/{repository}"
        return f"{text}@{digest}" if digest else text


def parse_reference(text: str) -> Reference:
    """Read and complete a reference, or raise NoReferenceError. Completing one twice changes nothing."""
    if len(text) < _SHORT and (usual := _USUAL.fullmatch(text)):
        registry, repository, below, tag, digest = usual.groups()
        tag = tag or ("" if digest else "latest")
        if registry is None or registry in HUB_NAMES:
            return Reference(HUB, repository if below else f"library/{repository}", tag, digest or "")
        if not registry.endswith(_HTTPS):
            return Reference(registry, repository, tag, digest or "")
    return _parse_any(text)


def _parse_any(text: str) -> Reference:
    shape = _SHAPE.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if shape is None:
        raise NoReferenceError(_why_not(text))
    name, tag, digest = shape.groups("")
    first, slash, rest = name.partition("/")
    if slash and names_registry(first):
        registry = canonical_registry(first)
        repository = rest
        if registry is None:
            raise NoReferenceError(f"names a registry that is none: {_why_not(first)}")
    else:
        registry, repository = HUB, name
    if registry == HUB and "/" not in repository:
        repository = f"library/{repository}"
    if _PATH.fullmatch(repository) is None or len(registry) + len(repository) >= _MAX_NAME:
        raise NoReferenceError(_why_not(text))
    if _BARE_ID.fullmatch(name):
        raise NoReferenceError("is an id, which says nothing of where an image is from")
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def names_registry(first: str) -> bool:
    """Tell whether the part before the first `/` is a registry, by Docker's rule."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def canonical_registry(text: str) -> str | None:
    """Lower case, without the port that is meant anyway; the names of Docker Hub are one. None if it is no registry.

    `HOST/app` and `host:443/app` are none: in lower case, or without its port, `host` is a name on Docker Hub.
    """
    registry = text.lower().removesuffix(_HTTPS)
    if registry in HUB_NAMES:
        return HUB
    return registry if names_registry(registry) and _REGISTRY.fullmatch(registry) else None


def _why_not(text: str) -> str:
    reasons = {
        "it is empty": not text,
        f"it is longer than {MAX_LENGTH} characters": len(text) > MAX_LENGTH,
        "it holds characters outside of ASCII, which may look like others": not text.isascii(),
        "it holds white space or a control character": any(one <= " " or one == "\x7f" for one in text),
        "its digest is not sha256 or sha512 in lower-case hex": "@" in text
        and not DIGEST.fullmatch(text.rsplit("@", maxsplit=1)[-1]),
        "it has upper case where only a tag may have it": text != text.lower(),
    }
    return next((reason for reason, so in reasons.items() if so), "it is not registry/repository:tag@digest")
