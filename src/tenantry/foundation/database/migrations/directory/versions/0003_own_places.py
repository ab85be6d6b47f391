"""The places that tenants have for themselves are found without reading those who share.

Every loop that goes round a cell asks for them, each second, however many tenants there are.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("create index tenants_places on directory.tenants (region, placement) where placement <> 'tenantry'")


def downgrade() -> None:
    op.execute("drop index directory.tenants_places")
