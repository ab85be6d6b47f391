"""What the two roles need, exactly. Row policies that fence the application by the first level are the caller's."""

from tenantry.engines.fairqueue.names import FUNCTIONS, TABLES, Names

_DISPATCHER = {
    "entries": "SELECT, UPDATE, DELETE",
    "shares": "SELECT, UPDATE, DELETE",
    "gate": "SELECT, UPDATE",
    "lanes": "SELECT, INSERT, UPDATE, DELETE",
    "nodes": "SELECT, INSERT, UPDATE, DELETE",
    "fronts": "SELECT, INSERT, UPDATE, DELETE",
    "workers": "SELECT, INSERT, UPDATE, DELETE",
}


def application_grants(names: Names) -> dict[str, str]:
    """Privileges for whoever enqueues, by table, for `GRANT … ON … TO …`.

    It may say what it wants, what its keys' shares are and what it used; state, place, attempt and charge are the
    dispatcher's, so it can forge neither a turn nor a lease. There is no DELETE: the counts would lose track.
    """
    keys = ", ".join((*names.levels, names.entry))
    share = f"{', '.join(names.levels[:2])}, weight, most_running"
    return {
        "entries": (
            f"SELECT ({keys}, estimate_seconds, slots, labels, enqueued_at, cancel_requested, used_slot_seconds, state,"
            f" attempt), INSERT ({keys}, estimate_seconds, slots, labels), UPDATE (cancel_requested, used_slot_seconds)"
        ),
        "shares": f"SELECT ({share}, changed), INSERT ({share}), UPDATE (weight, most_running, changed)",
    }


def dispatcher_grants(names: Names, *, role: str) -> list[str]:
    """Grants and policies of the dispatcher; row security is forced on every table, so nobody else sees anything."""
    statements = [f"GRANT USAGE ON SCHEMA {names.schema} TO {role}"]
    for table in TABLES:
        full = f"{names.schema}.{table}"
        statements += [
            f"ALTER TABLE {full} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {full} FORCE ROW LEVEL SECURITY",
            f"GRANT {_DISPATCHER[table]} ON {full} TO {role}",
            f"CREATE POLICY dispatcher ON {full} TO {role} USING (true) WITH CHECK (true)",
        ]
    return statements + [f"GRANT EXECUTE ON FUNCTION {names.schema}.{name} TO {role}" for name in FUNCTIONS]
