"""When a key ends: what a process has cached of it must know that moment too."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tenantry.capabilities.identity.types import ApiKey, KeyStatus, PrincipalType
from tenantry.foundation.ids import new_id

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = ApiKey(
    key_id=new_id(),
    workspace_id=None,
    principal_type=PrincipalType.USER,
    principal_id="usr_01h455vb4pex5vsknk084sn02q",
    name="k",
    roles=(),
    permissions=(),
    allowed_networks=(),
    status=KeyStatus.GRACE,
    created_at=NOW,
    created_by="test",
    expires_at=NOW + 2 * DAY,
    last_used_at=None,
    revoked_at=None,
    grace_until=NOW + DAY,
)


def test_a_key_ends_with_its_grace_or_when_it_expires_whichever_is_sooner() -> None:
    assert KEY.ends_at == NOW + DAY
    assert replace(KEY, expires_at=NOW).ends_at == NOW
    assert replace(KEY, grace_until=None).ends_at == NOW + 2 * DAY
    assert replace(KEY, grace_until=None, expires_at=None).ends_at is None


def test_a_grace_that_is_over_reads_retired_and_a_revoked_key_stays_revoked() -> None:
    assert KEY.as_of(NOW).status is KeyStatus.GRACE
    assert KEY.as_of(NOW + DAY).status is KeyStatus.RETIRED
    assert replace(KEY, status=KeyStatus.REVOKED).as_of(NOW + DAY).status is KeyStatus.REVOKED
