"""Which words of an event can be searched for: of a named list of its fields, never of free content (ADR 0042)."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from tenantry.capabilities.audit.types import AuditEvent, Outcome
from tenantry.capabilities.audit.types.classes import DETAILS, REASON

BLOCK: Final = 64
"""Events that share an entry of the index: those at the places 64·n + 1 to 64·n + 64."""
SEARCHED_DETAILS: Final = (
    *("capability", "format", "isolation", "kind", "name", "permission", "plan", "region", "role", "slug", "status"),
    *("stream", "topic"),
)
"""Members of an event's details that hold names of things, all of them public. What is not listed is not searched."""

_WORD: Final = re.compile(r"[^\W_]+")
_MAX_WORD: Final = 64
_MAX_WORDS: Final = 40


def words_of(text: str) -> list[str]:
    """Split into words as they are compared: NFKC, small letters, letters and digits alone; at most 40, cut at 64."""
    found = (word[:_MAX_WORD] for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()))
    return list(dict.fromkeys(found))[:_MAX_WORDS]


def searchable(event: AuditEvent) -> frozenset[str]:
    """Give the words that a search can find an event by: of what its canonical bytes say, whatever was opened."""
    names = (event.details.get(name) for name in SEARCHED_DETAILS if DETAILS + name not in event.committed)
    said = (
        event.action,
        event.resource_type,
        event.resource_id,
        event.actor.id,
        event.reason if event.reason and REASON not in event.committed else "",
        *(name for name in names if isinstance(name, str)),
    )
    return frozenset(words_of(" ".join(said)))


def entries_of(event: AuditEvent) -> Iterator[str]:
    """Give what the index has of an event: its words, and as whole the fields that filters ask for."""
    yield from (word_entry(word) for word in searchable(event))
    yield noun_entry(event.action)
    yield type_entry(event.resource_type)
    yield actor_entry(event.actor.type)
    if event.outcome is not Outcome.SUCCESS:
        yield outcome_entry(event.outcome)
    if event.trace_id:
        yield trace_entry(event.trace_id)


def word_entry(word: str) -> str:
    return f"w:{word}"


def noun_entry(action: str) -> str:
    return f"a:{action.partition('.')[0]}"


def type_entry(resource_type: str) -> str:
    return f"r:{resource_type}"


def actor_entry(actor_type: str) -> str:
    return f"y:{actor_type}"


def outcome_entry(outcome: Outcome) -> str:
    return f"o:{outcome.value}"


def trace_entry(trace_id: str) -> str:
    return f"t:{trace_id}"
