from pathlib import Path

from tenantry.foundation.objects.directory import DirectoryObjects
from tenantry.foundation.objects.ports import ObjectStore
from tenantry.foundation.objects.s3 import Bucket, S3Objects


def open_objects(*, root: Path, bucket: Bucket | None) -> ObjectStore:
    """Open a cell's objects: the region's bucket, else files below `root` (`$TENANTRY_HOME/<region>`)."""
    return DirectoryObjects(root) if bucket is None else S3Objects(bucket)
