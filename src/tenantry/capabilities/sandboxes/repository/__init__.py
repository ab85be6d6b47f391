"""All SQL of sandboxes."""

from tenantry.capabilities.sandboxes.repository.content import (
    find_artifact,
    find_inputs,
    insert_artifacts,
    insert_lines,
    list_artifacts,
    list_lines,
    measure_content,
    purge_content,
    tell_content_keys,
)
from tenantry.capabilities.sandboxes.repository.images import (
    delete_image,
    find_image,
    insert_image,
    list_images,
    list_wanted_digests,
)
from tenantry.capabilities.sandboxes.repository.jobs import (
    end_job,
    find_job,
    insert_job,
    list_jobs,
    lock_granted_jobs,
    lock_open_jobs,
    request_cancellation,
    set_grant,
    start_job,
)
from tenantry.capabilities.sandboxes.repository.remote_queue import (
    is_queued,
    lock_remote_entries,
    note_remote_claim,
    settle_remote_entries,
    wake_workers,
)

__all__ = [
    "delete_image",
    "end_job",
    "find_artifact",
    "find_image",
    "find_inputs",
    "find_job",
    "insert_artifacts",
    "insert_image",
    "insert_job",
    "insert_lines",
    "is_queued",
    "list_artifacts",
    "list_images",
    "list_jobs",
    "list_lines",
    "list_wanted_digests",
    "lock_granted_jobs",
    "lock_open_jobs",
    "lock_remote_entries",
    "measure_content",
    "note_remote_claim",
    "purge_content",
    "request_cancellation",
    "set_grant",
    "settle_remote_entries",
    "start_job",
    "tell_content_keys",
    "wake_workers",
]
