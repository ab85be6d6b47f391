"""What a job may connect to: what it asked for, and policies allowed."""

from tenantry.foundation.database.migrations.fencing import run

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    run("alter table tenantry.jobs add column network jsonb not null default '[]'")


def downgrade() -> None:
    run("alter table tenantry.jobs drop column network")
