"""Overlays: layers of nested settings, the later over the earlier, and which layer gave each value.

Objects merge member by member; a scalar, a list and None replace what was there. None is a value: it says "no limit"
where a lower layer says one. Results are frozen to the last level and share nothing with what they were made from.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Overlaid:
    """What the layers come to. `layers` names the layer of each leaf by its dotted path."""

    values: Mapping[str, Any]
    layers: Mapping[str, str]

    def get(self, path: str) -> Any:
        """Give the value at a dotted path (`saturation.max_qps`), an object included; raises KeyError."""
        value: Any = self.values
        for name in path.split("."):
            if not isinstance(value, Mapping):
                raise KeyError(path)
            try:
                value = value[name]
            except KeyError:
                raise KeyError(path) from None
        return value


def lay(layers: Iterable[tuple[str, Mapping[str, Any]]]) -> Overlaid:
    """Lay named layers over each other, lowest first.

    Raises ValueError for a member name that is no text, is empty or holds a dot, for a value that JSON does not know,
    and for nesting beyond `MAX_DEPTH`.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, members in layers:
        _lay(members, over=values, sources=sources, layer=name, prefix="")
    return Overlaid(freeze(values), MappingProxyType(sources))


def freeze(value: Any, *, depth: int = 0) -> Any:
    """Copy deeply into what nobody can change: read-only mappings and tuples. Raises ValueError as `lay` does."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    match value:
        case Mapping():
            return MappingProxyType({_name(name): freeze(item, depth=depth + 1) for name, item in value.items()})
        case list() | tuple():
            return tuple(freeze(item, depth=depth + 1) for item in value)
        case None | str() | bool() | int() | float():
            return value
        case _:
            raise ValueError(f"{type(value).__name__} is no value of JSON")


def thaw(value: Any) -> Any:
    """Copy deeply into plain dicts and lists, for an encoder."""
    match value:
        case Mapping():
            return {name: thaw(item) for name, item in value.items()}
        case list() | tuple():
            return [thaw(item) for item in value]
        case _:
            return value


def paths(members: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten to leaves by their dotted paths; an empty object is a leaf."""
    found: dict[str, Any] = {}
    for name, value in members.items():
        if isinstance(value, Mapping) and value:
            found |= paths(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """List the dotted paths whose value or presence differs. Types count: 1 is not True."""
    old, new = paths(freeze(before)), paths(freeze(after))
    return sorted(
        path
        for path in old.keys() | new.keys()
        if (path in old, type(old.get(path)), old.get(path)) != (path in new, type(new.get(path)), new.get(path))
    )


def _lay(members: Mapping[str, Any], *, over: dict[str, Any], sources: dict[str, str], layer: str, prefix: str) -> None:
    if prefix.count(".") > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    for name, value in members.items():
        path = prefix + _name(name)
        below = over.get(name)
        if not isinstance(value, Mapping):
            _forget(sources, path)
            over[name], sources[path] = value, layer
        elif value:
            _forget(sources, path, only=isinstance(below, dict))
            over[name] = below if isinstance(below, dict) else {}
            _lay(value, over=over[name], sources=sources, layer=layer, prefix=f"{path}.")
        elif not isinstance(below, dict):
            _forget(sources, path)
            over[name], sources[path] = {}, layer


def _forget(sources: dict[str, str], path: str, *, only: bool = False) -> None:
    """Drop what was said of a path, and unless `only`, of everything below it."""
    sources.pop(path, None)
    if not only:
        for deeper in [known for known in sources if known.startswith(f"{path}.")]:
            del sources[deeper]


def _name(name: object) -> str:
    if not isinstance(name, str) or not name or "." in name:
        raise ValueError("a name must be text, not empty, without a dot")
    return name
