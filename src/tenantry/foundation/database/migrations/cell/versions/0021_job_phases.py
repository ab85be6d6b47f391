"""The programs of a job that was asked for by phases."""

from tenantry.foundation.database.migrations.fencing import run

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    run("alter table tenantry.jobs add column phases jsonb not null default '[]'")


def downgrade() -> None:
    run("alter table tenantry.jobs drop column phases")
