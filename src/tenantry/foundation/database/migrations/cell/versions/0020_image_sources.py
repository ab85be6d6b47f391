"""Images come from layouts and registries too."""

from tenantry.foundation.database.migrations.fencing import run

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    run(
        """alter table tenantry.images
            drop constraint images_source_check,
            add constraint images_source_check
                check (source in ('docker_archive', 'directory', 'oci_layout', 'registry'))""",
    )


def downgrade() -> None:
    run(
        "update tenantry.images set source = 'docker_archive' where source in ('oci_layout', 'registry')",
        """alter table tenantry.images
            drop constraint images_source_check,
            add constraint images_source_check check (source in ('docker_archive', 'directory'))""",
    )
