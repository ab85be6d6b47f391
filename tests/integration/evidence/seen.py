"""Short words for what tests look for in evidence."""

import base64
import json
from typing import Any

from tests.integration.sandboxes.ground import Ground, Json, until

from tenantry.engines.merkle.notes import VerifierKey


def base(ground: Ground) -> str:
    return f"/workspaces/{ground.workspace}/evidence"


def listed(ground: Ground, **filters: str) -> list[Json]:
    answer = ground.client.get(base(ground), params={"limit": "200", **filters})
    assert answer.status_code == 200, answer.text
    items: list[Json] = answer.json()["items"]
    return items


def of_job(ground: Ground, job: str) -> Json:
    [found] = listed(ground, subject=job)
    return found


def locked(ground: Ground, job: str, *, seconds: float = 20) -> Json:
    """Wait until the evidence of a job is locked, by itself, and get it whole."""

    def look() -> Json | None:
        found = of_job(ground, job)
        return found if found["state"] != "wip" else None

    found = until(look, seconds=seconds)
    assert found is not None
    assert found["state"] == "locked", found
    return got(ground, found["id"])


def got(ground: Ground, evidence: str) -> Json:
    answer = ground.client.get(f"{base(ground)}/{evidence}")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def statement_of(found: Json) -> Json:
    statement: Json = json.loads(base64.b64decode(found["bundle"]["envelope"]["payload"]))
    return statement


def keys_of(found: Json) -> list[VerifierKey]:
    return [VerifierKey.parse(one["key"]) for one in found["bundle"]["keys"]]


def raw(bundle: Any) -> bytes:
    return json.dumps(bundle).encode()
