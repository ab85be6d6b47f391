"""Alembic's environment: the connection is handed in by `tenantry.foundation.database.migrate`."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
    version_table_schema=context.config.attributes["schema"],
    include_schemas=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
