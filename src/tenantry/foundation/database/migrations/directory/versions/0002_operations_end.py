"""Operations that are called off or given up remember it, and since when they are at their step."""

from alembic import op

revision = "0002"
down_revision = "0001"


_STATEMENTS = (
    # How an operation ends that is being put back; null while it goes forward.
    "alter table directory.operations add column ending text check (ending in ('failed', 'cancelled'))",
    "alter table directory.operations add column cancelled_by text",
    "alter table directory.operations add column step_since timestamptz",
    "update directory.operations set step_since = updated_at",
    "alter table directory.operations alter column step_since set not null",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for column in ("step_since", "cancelled_by", "ending"):
        op.execute(f"alter table directory.operations drop column {column}")
