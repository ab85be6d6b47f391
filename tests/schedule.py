"""Which tests xdist keeps together, and which of these come first.

A file's tests stay together, for what they share. Those of the isolation suite do by their strategy instead: to make a
furnished world takes as long as many of them. So do those of a folder with an installation of its own, which ends with
the folder: one that idles takes a twentieth of a processor. What takes longest begins first, so that no worker is left
alone with it at the end.
"""

from collections import Counter
from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling

STRATEGIES: Final = ("row_level", "schema_level", "database_level")
FOLDERS: Final = ("tests/integration/declared", "tests/integration/logins", "tests/integration/tenancy")
_OWN_WORLDS: Final = ("test_control.py", "test_residency.py")
_SECONDS_EACH: Final = 0.1
_SECONDS: Final = {
    "isolation/row_level": 300,
    "isolation/schema_level": 200,
    "isolation/database_level": 200,
    "tests/integration/tenancy": 400,
    "tests/integration/logins": 150,
    "tests/e2e/test_readme.py": 90,
    "tests/integration/api/test_vouching.py": 80,
    "tests/e2e/test_crash.py": 80,
    "tests/integration/api/test_interleaved.py": 60,
    "tests/isolation/test_residency.py": 60,
    "tests/e2e/test_demo.py": 60,
    "tests/e2e/test_start.py": 100,
    "tests/integration/database/test_embedded_postgres.py": 50,
    "tests/e2e/test_homes.py": 70,
    "tests/integration/sandboxes/test_persistence.py": 40,
    "tests/integration/sandboxes/test_jobs.py": 50,
    "tests/contract/test_object_store.py": 40,
    "tests/integration/notifications/test_webhooks.py": 40,
    "tests/integration/notifications/test_channels.py": 40,
    "tests/integration/places/test_moves.py": 40,
    "tests/integration/declared": 60,
    "tests/contract/test_sandbox_backend_death.py": 40,
    "tests/contract/test_sandbox_backend.py": 30,
    "tests/integration/docker/test_jobs.py": 30,
    "tests/integration/api/test_certificates.py": 30,
    "tests/mutation/test_containing.py": 120,
    "tests/mutation/test_launcher.py": 80,
    "tests/mutation/test_bubblewrap.py": 40,
    "tests/mutation/test_gateway.py": 40,
    "tests/integration/jail/test_escape.py": 120,
    "tests/integration/jail/test_remains.py": 60,
    "tests/integration/sandboxes/test_phases.py": 40,
    "tests/integration/sandboxes/test_live.py": 30,
    "tests/integration/sandboxes/test_injection.py": 30,
    "tests/integration/sandboxes/test_worker_machine.py": 40,
    "tests/integration/egress/test_injection.py": 40,
    "tests/integration/evidence/test_locking.py": 60,
    "tests/integration/evidence/test_tampering.py": 90,
    "tests/integration/evidence/test_retention.py": 60,
}
"""Of those that take longer than their number of tests tells; it need not be exact."""


def unit_of(nodeid: str) -> str:
    """Tell what a test is kept together with."""
    file, _, test = nodeid.partition("::")
    folder, _, name = file.rpartition("/")
    if folder in FOLDERS:
        return folder
    if folder != "tests/isolation" or name in _OWN_WORLDS:
        return file
    return f"isolation/{next((strategy for strategy in STRATEGIES if strategy in test), STRATEGIES[0])}"


class Folder(pytest.Package):
    """A folder with whose last test its fixtures of the scope `package` end; it needs no `__init__.py`."""

    def setup(self) -> None:
        pass


def sort_by_cost(items: list[pytest.Item]) -> None:
    """Put the units that take longest first, and leave each as it is."""
    counts = Counter(unit_of(item.nodeid) for item in items)
    costs = {unit: _SECONDS.get(unit, count * _SECONDS_EACH) for unit, count in counts.items()}
    items.sort(key=lambda item: (-costs[unit := unit_of(item.nodeid)], unit))


class UnitScheduling(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """Gives out units in the order they were collected in."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _reschedule(self, node: Any) -> None:
        """Give out what is left. Of a worker that crashed xdist takes back what it had done, too, and whoever is then
        given a unit in which nothing is left waits for ever.
        """
        for unit in [unit for unit, tests in self.workqueue.items() if all(tests.values())]:
            del self.workqueue[unit]
        super()._reschedule(node)
