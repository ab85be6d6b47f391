from scripts.reference.markdown import code, page, table

from tenantry.capabilities.audit.types.classes import CLASSES, OF_NOUNS, DataClass

_INTRODUCTION = """
What an event says is of one class a field (ADR 0044, 0045).

- `public`: ids, codes, numbers, names of things. Written as it is, and hashed for ever; words are searched in nothing
  else.
- `personal`: about persons. The event has a commitment, the value lies beside it, sealed under the tenant's key, and
  can be forgotten. What this page does not list is personal.
- `content`: what people or programs wrote. The same in a workspace whose `persistence_mode` is `full`, and in events of
  no workspace. In `metadata_only` there is the commitment alone: the value is kept nowhere, and `withheld` names it.
"""
_FIELDS = [
    ("ids, times, `actor`, `action`, `resource`, `outcome`, `trace_id`", DataClass.PUBLIC),
    ("`reason` that is a code", DataClass.PUBLIC),
    ("`reason` that somebody wrote", DataClass.CONTENT),
    ("`ip`", DataClass.PERSONAL),
]


def render() -> str:
    members = [[code(name), code(of)] for name, of in sorted(CLASSES.items())]
    others = [[code(member), code(f"{noun}.*"), code(of)] for (noun, member), of in sorted(OF_NOUNS.items())]
    return page(
        "Fields of audit events",
        _INTRODUCTION,
        "## Of the event",
        table(["Field", "Class"], [[name, code(of)] for name, of in _FIELDS]),
        "## Members of `details`",
        table(["Member", "Class"], members),
        "## Members that mean something else",
        table(["Member", "In", "Class"], others),
    )
