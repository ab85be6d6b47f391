"""The quota ledger of a tenant as work meets it, below the interfaces: a server of its own in this process."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from tests.conftest import Installation, MakeTenant, Tenant, on_every_strategy
from tests.integration.api.conftest import Beside, serving_beside

from tenantry.capabilities.limits.service import QuotaService, settle
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Unavailable
from tenantry.foundation.ids import Prefix, new_id, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_every_strategy(metafunc)


async def _patiently(once: Callable[[], Awaitable[None]]) -> None:
    """Repeat while more want a connection than there are: nothing was done."""
    while True:
        try:
            return await once()
        except Unavailable as error:
            if error.code != "database_unavailable":
                raise


@dataclass
class Book:
    """One tenant's ledger."""

    beside: Beside
    tenant: Tenant
    workspace: str

    @property
    def tenant_id(self) -> UUID:
        return parse_id(Prefix.TENANT, self.tenant.id)

    @property
    def workspace_id(self) -> UUID:
        return parse_id(Prefix.WORKSPACE, self.workspace)

    def session(self, *, whole: bool = False) -> TenantSession:
        """Open one in the workspace, or in the whole tenant."""
        place = None if whole else self.workspace_id
        scope = TenantScope(tenant_id=self.tenant_id, region="us", actor=SYSTEM, workspace_id=place, trace_id="0" * 32)
        return self.beside.runtime.cells.session(scope)

    def quotas(self, session: TenantSession) -> QuotaService:
        runtime = self.beside.runtime
        return QuotaService(session=session, book=runtime.book, clock=self.beside.clock)

    async def reserve(self, amounts: Mapping[Quota, int], **more: Any) -> UUID:
        """Hold in a transaction of its own."""
        reservation_id = new_id()

        async def once() -> None:
            async with self.session() as session:
                quotas = self.quotas(session)
                fields = {"kind": "test", **more}
                await quotas.reserve(reservation_id, amounts, workspace_id=self.workspace_id, **fields)

        await _patiently(once)
        return reservation_id

    async def settle(self, reservation_id: UUID, **used: int) -> None:
        """Settle in a transaction of its own."""

        async def once() -> None:
            async with self.session() as session:
                amounts = {Quota(name): amount for name, amount in used.items()}
                await settle(session, reservation_id, amounts, clock=self.beside.clock)

        await _patiently(once)

    async def counted(self) -> dict[tuple[str, str], tuple[int, int]]:
        """By holder and quota: held, used, of all that is not 0."""
        async with self.session() as session:
            found = await self.quotas(session).standings(self.workspace_id)
        return {
            (each.effective.holder.value, each.counted.quota.value): (each.counted.held, each.counted.used)
            for each in found
            if each.counted.taken
        }

    def limit(self, place: str, **numbers: float | None) -> None:
        path = f"/workspaces/{self.workspace}" if place == "workspace" else f"/tenants/{self.tenant.id}"
        answer = self.tenant.owner.patch(f"{path}/limits", json=numbers)
        assert answer.status_code == 200, answer.text
        self.beside.runtime.book.forget(self.tenant_id.hex)


@pytest.fixture(scope="session")
async def beside(installation: Installation) -> AsyncIterator[Beside]:
    # Many at once, each with a transaction of its own.
    database = installation.settings.database.model_copy(update={"pool_size": 50})
    async with serving_beside(installation.settings.model_copy(update={"database": database})) as opened:
        yield opened


MakeBook = Callable[..., Book]


@pytest.fixture
def make_book(beside: Beside, make_tenant: MakeTenant) -> MakeBook:
    def make(**fields: object) -> Book:
        tenant = make_tenant(**fields)
        return Book(beside, tenant, tenant.workspace("dev"))

    return make


@asynccontextmanager
async def broken_off(book: Book) -> AsyncIterator[TenantSession]:
    """A transaction whose connection is cut before it could end."""
    session = book.session()
    try:
        yield session
        connection = await session.connection()
        connection.terminate()
    finally:
        await session.rollback()
