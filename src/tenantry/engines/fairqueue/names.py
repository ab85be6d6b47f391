"""Names the caller gives to the queue's schema and columns, and the DDL that follows from them."""

import re
from dataclasses import dataclass
from importlib import resources

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,47}")
_OWN = frozenset(
    {"estimate_seconds", "slots", "labels", "enqueued_at", "cancel_requested", "used_slot_seconds", "state", "leaf"}
    | {"lane", "attempt", "worker", "lease_until", "charged", "claimed_at", "weight", "most_running", "changed"}
)
TABLES = ("entries", "shares", "gate", "lanes", "nodes", "fronts", "workers")
FUNCTIONS = {
    "is_full": "bigint",
    "least_above": "bigint, integer",
    "hold": "bigint[]",
    "settle": "bigint, integer, double precision, integer, integer",
    "retire": "integer",
    "absorb": "",
    "recount": "bigint, integer[]",
    "recount_held": "",
    "weigh": "",
    "claim": "uuid, integer, integer, text[], double precision",
    "give_back": "uuid, uuid, integer, uuid",
    "catch_up": "",
    "collect": "double precision, integer",
    "standing": "uuid, uuid, double precision",
}


@dataclass(frozen=True, slots=True)
class Names:
    """Schema, the three level columns from the top down, and the column of an entry's own id; all uuid columns.

    Raises ValueError for what is no plain lower-case identifier, or is a column of the queue's own.
    """

    schema: str
    levels: tuple[str, str, str]
    entry: str

    def __post_init__(self) -> None:
        columns = (*self.levels, self.entry)
        for name in (self.schema, *columns):
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r} must be a lower-case identifier of at most 48 characters")
        if len(set(columns)) != len(columns) or _OWN.intersection(columns):
            raise ValueError("the level and entry columns must differ from one another and from the queue's own")

    def fill(self, template: str) -> str:
        """Put the names into a template that says `__schema__`, `__first__`, `__second__`, `__third__`, `__entry__`."""
        first, second, third = self.levels
        words = {"schema": self.schema, "first": first, "second": second, "third": third, "entry": self.entry}
        return re.sub(r"__(schema|first|second|third|entry)__", lambda match: words[match[1]], template)


def ddl(names: Names) -> list[str]:
    """Spell the queue out, one statement an item, in order. The schema must exist; the caller grants (README)."""
    folder = resources.files(__package__) / "sql"
    tables = (folder / "tables.sql").read_text(encoding="utf-8")
    statements = [part.strip() for part in tables.split(";\n") if part.strip()]
    for name, arguments in FUNCTIONS.items():
        function = (folder / f"{name}.sql").read_text(encoding="utf-8")
        statements += [function.strip().removesuffix(";")]
        statements += [f"REVOKE ALL ON FUNCTION __schema__.{name}({arguments}) FROM PUBLIC"]
    return [names.fill(statement) for statement in statements]
