"""What the content of jobs and images takes, for the usage of a tenant."""

from collections.abc import Sequence

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.tenants.types import Measure
from tenantry.foundation.database.session import TenantSession


class StoredContent:
    """The `UsageSource` port of tenants for logs, inputs, artifacts and images that are still kept."""

    async def measure(self, session: TenantSession) -> Sequence[Measure]:
        """Count bytes by workspace and kind, as `storage.<kind>`."""
        return [
            Measure(f"storage.{kind}", amount, workspace_id)
            for workspace_id, kind, amount in await repository.measure_content(session)
        ]
