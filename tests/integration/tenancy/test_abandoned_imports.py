"""An import that is given up leaves nothing, also of what others had begun to write to its rows."""

import asyncio

import pytest
from tests.conftest import Installation

from tenantry.capabilities.tenants.service.operations import new_operation
from tenantry.capabilities.tenants.types import Isolation, OperationKind, Seat
from tenantry.entrypoints.operations import make_operations
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.database.places import SHARED, schema_at
from tenantry.foundation.database.transfer import open_rows
from tenantry.foundation.errors import TenantryError
from tenantry.foundation.ids import new_id
from tenantry.foundation.scope import SYSTEM, TenantScope

SEAT = Seat("us", Isolation.ROW_LEVEL, SHARED)


async def words(parts: Parts, scope: TenantScope) -> int:
    access = parts.mover_access["us"]
    async with open_rows(access.dsn, place=SHARED, signer=access.signer, tenant_id=scope.tenant_id) as rows:
        return await rows.count("audit_words")


async def test_what_follows_its_rows_is_waited_for_and_goes_with_them(elsewhere: Installation) -> None:
    """Red once where rows were deleted in one go: the index of words committed behind it, and stayed for ever."""
    scope = TenantScope(new_id(), "us", SYSTEM)
    async with open_parts(elsewhere.settings) as parts:
        access = parts.mover_access["us"]
        async with open_rows(access.dsn, place=SHARED, signer=access.signer, tenant_id=scope.tenant_id) as rows:
            await rows.place("suspended", home=schema_at(SHARED))
        operation = new_operation(
            OperationKind.IMPORT, step="things", tenant_id=scope.tenant_id, source=SEAT, target=SEAT,
            requested_by="a test", now=parts.clock.now(),
        )  # fmt: skip
        imports = make_operations(parts)._kinds[OperationKind.IMPORT]
        async with parts.cells.session(scope, lifecycle=True) as follower:
            await follower.execute(
                "insert into audit_words (tenant_id, word, block) values ($1, 'zebra', 0)", scope.tenant_id
            )
            abandoning = asyncio.create_task(imports.abandon(operation))
            await asyncio.wait([abandoning], timeout=0.5)
            assert not abandoning.done()
        await abandoning
        assert await words(parts, scope) == 0
        with pytest.raises(TenantryError):
            async with parts.cells.session(scope, lifecycle=True) as late:
                await late.execute(
                    "insert into audit_words (tenant_id, word, block) values ($1, 'late', 0)", scope.tenant_id
                )
        await imports.abandon(operation)
