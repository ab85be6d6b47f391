"""A tenant as one archive: a tar of rows, objects, images and keys, with a manifest of digests as its last member."""

from tenantry.capabilities.tenants.service.archives.form import (
    FORMAT,
    KEYS,
    LEFT_OUT,
    PURGES,
    Manifest,
    ManifestTable,
    read_key,
    write_key,
)
from tenantry.capabilities.tenants.service.archives.reading import Archive, Row, examine, examine_rows
from tenantry.capabilities.tenants.service.archives.writing import ArchiveWriter, json_member, rows_member

__all__ = [
    "FORMAT",
    "KEYS",
    "LEFT_OUT",
    "PURGES",
    "Archive",
    "ArchiveWriter",
    "Manifest",
    "ManifestTable",
    "Row",
    "examine",
    "examine_rows",
    "json_member",
    "read_key",
    "rows_member",
    "write_key",
]
