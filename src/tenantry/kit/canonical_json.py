"""The JSON Canonicalization Scheme (RFC 8785), by the C encoder where that writes the same bytes.

Of strings, whole numbers, true, false and null under ASCII names, JSON with sorted names and no spaces *is* canonical;
that is nearly all we sign and hash. What has fractions, other names or other types is left to the library.
"""

import json
from typing import Any, Final

import rfc8785

_WRITER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)
_MOST: Final = 2**53 - 1


def canonical_json(value: Any) -> bytes:
    """Write it; raises ValueError for what has no canonical form, RecursionError for what has no end."""
    if _is_plain(value):
        try:
            return _WRITER.encode(value).encode()
        except UnicodeEncodeError:
            pass  # a lone surrogate: the library says so
    return rfc8785.dumps(value)


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is dict:
        return all(type(name) is str and name.isascii() and _is_plain(each) for name, each in value.items())
    if kind is int:
        return bool(-_MOST <= value <= _MOST)
    return (kind is list or kind is tuple) and all(map(_is_plain, value))
