"""The metadata that models join: Alembic and the test that models equal head read it; servers never import it."""

from sqlalchemy import MetaData

CELL = MetaData(schema="tenantry")
DIRECTORY = MetaData(schema="directory")
