"""Every case of the suite, in the order of the report."""

from typing import Final

from tenantry.engines.jail.escape import archives, chain, excesses, leavings, sentry, visits
from tenantry.engines.jail.escape.cases import Case
from tenantry.engines.jail.escape.program import INSIDE
from tenantry.engines.jail.escape.under_gvisor import why_not

GROUPS: Final = {
    "identity": "Who a program is, what it holds, and that it becomes nobody else.",
    "limits": "The bounds of its processes and of its cgroup, and that they stay.",
    "namespaces": "It is in none of the host's.",
    "mounts": "What it sees, what it may write, and how much of that.",
    "devices": "The six that are harmless, and no other.",
    "procfs": "Settings and memory of the kernel.",
    "signals": "No process of the host can be named.",
    "kernel": "Each rule of the seccomp filter: tried as a call inside, and interpreted from its bytes.",
    "network": "No address, name or socket leads out.",
    "secrets": "A neighbour's canary, looked for inside and on the host.",
    "bombs": "Each meets its bound, and a neighbour does not notice.",
    "files": "What it leaves for the reader of artifacts, and inputs that would lie elsewhere.",
    "archives": "Images made to write outside of themselves, or never to end.",
    "chain": "Launcher and monitor, as the host sees them.",
    "exec": "A program put into a living sandbox: all of the above again, and how it comes in and ends.",
    "ends": "Nothing is left of it.",
}
NOT_APPLICABLE: Final = "not applicable"
#: What makes a sandbox whose kernel is gVisor's.
SENTRY: Final = "sentry"
_ALL: Final = (*INSIDE, *chain.CASES, *sentry.CASES, *leavings.CASES, *archives.CASES, *excesses.CASES, *visits.CASES)
CASES: Final = tuple(case for group in GROUPS for case in _ALL if case.group == group)


def missing(case: Case, have: frozenset[str]) -> str:
    """Say what the case needs that is not here, or why it does not apply, empty when it can be tried."""
    if SENTRY in have and (reason := why_not(case)):
        return f"{NOT_APPLICABLE}: {reason}"
    return ", ".join(sorted(case.needs - have))
