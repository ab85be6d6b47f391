"""Inputs of jobs apart from their environment: they stay as long as the output does, secrets go at the end."""

from tenantry.foundation.database.migrations.fencing import run

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # Jobs that wait keep their inputs in `given`, beside the environment, and lose them with it.
    run("alter table tenantry.jobs add column given_inputs bytea")


def downgrade() -> None:
    run("alter table tenantry.jobs drop column given_inputs")
