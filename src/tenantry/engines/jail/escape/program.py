"""What runs inside: every case that is tried there, one JSON line each: {"code", "ok", "detail"}.

Given as files below /inputs, beside the plan; it needs the standard library alone.
"""

import json
import sys
from pathlib import Path

from tenantry.engines.jail.escape import floods, guests, identity, network, rooms, surface, surroundings
from tenantry.engines.jail.escape.cases import PLAN, Attempt, Case, Verdict

INSIDE: tuple[Case, ...] = (
    *identity.CASES,
    *rooms.CASES,
    *surroundings.CASES,
    *surface.CASES,
    *network.CASES,
    *floods.CASES,
    *guests.CASES,
)


def main(plan: str) -> None:
    PLAN.update(json.loads(Path(plan).read_text()))
    wanted = set(PLAN["cases"])
    for case in INSIDE:
        if case.attempt is not None and case.code in wanted:
            ok, detail = _tried(case.attempt)
            sys.stdout.write(json.dumps({"code": case.code, "ok": ok, "detail": detail[:300]}) + "\n")
            sys.stdout.flush()


def _tried(attempt: Attempt) -> Verdict:
    try:
        return attempt()
    except Exception as error:  # noqa: BLE001 - a case that breaks is a case that failed
        return False, repr(error)
