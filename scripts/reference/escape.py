from scripts.reference.markdown import code, page, table

from tenantry.engines.jail.escape import catalogue
from tenantry.engines.jail.escape.cases import Case
from tenantry.engines.jail.escape.catalogue import missing
from tenantry.engines.jail.escape.under_gvisor import NOT_APPLICABLE
from tenantry.engines.jail.selftest import BUILDERS
from tenantry.engines.jail.syscalls import MACHINES
from tenantry.entrypoints.egress_suite import cases as egress

CASES = (*catalogue.CASES, *egress.CASES)
GROUPS = catalogue.GROUPS | {"egress": egress.TOLD}

_INTRODUCTION = """
What `tenantry selftest` tries on the installation it is on: {total} cases, each of which must not be possible, or must
be bounded. The tests run the same cases with every backend: the jail with each bubblewrap (the system's, and the
wheel's), for a supervisor that is root and one that is an ordinary user, with cgroups and without; the containers
of an engine, Docker's; and those with gVisor's kernel. ● tried; ○ not applicable: what the case needs is not to be had
there (`bubblewrap` builds the jail's sandboxes alone, `engine` the containers, `sentry` is gVisor's kernel); why cases
do not apply under gVisor stands at the end.

`tests/mutation` shows that the suite sees: without any one option of bubblewrap, rule of the filter, bound or step of
the launcher, a case of it is open or no sandbox starts, but for those listed there, each with its reason. The same is
shown of the gateway's checks, by a table of its own.
"""
_SUPERVISORS = {
    "Jail, root": ("root", BUILDERS["jail"], "rlimits"),
    "Jail, ordinary user": ("user", BUILDERS["jail"], "rlimits"),
    "Docker": ("root", BUILDERS["docker"]),
    "gVisor": ("root", BUILDERS["gvisor"]),
}


def render() -> str:
    return page(
        "Escape suite",
        _INTRODUCTION.format(total=len(CASES)),
        table(["Group", "Cases", "What is tried"], [[code(g), str(len(_of(g))), text] for g, text in GROUPS.items()]),
        *(f"## {group}\n\n{table(['Case', 'Expected', *_SUPERVISORS, 'Needs'], _rows(group))}" for group in GROUPS),
        f"## What does not apply under gVisor\n\n{table(['Why', 'Cases'], _reasons())}",
    )


def _reasons() -> list[list[str]]:
    """List the reasons with their cases; a name without a point is that of a whole group."""
    return [[reason, " ".join(map(code, codes))] for reason, codes in NOT_APPLICABLE.items()]


def _of(group: str) -> list[Case]:
    return [case for case in CASES if case.group == group]


def _rows(group: str) -> list[list[str]]:
    return [
        [
            code(case.name),
            case.expected,
            *("○" if missing(case, _everything(kind)) else "●" for kind in _SUPERVISORS.values()),
            " ".join(code(need) for need in sorted(case.needs - {"root", "user"})),
        ]
        for case in _of(group)
    ]


def _everything(kind: tuple[str, ...]) -> frozenset[str]:
    """All that a machine may offer to a supervisor of that kind."""
    return frozenset({*kind, "cgroup", *MACHINES})
