"""The face of sandboxes: jobs, images, their content, and what a worker runs."""

from tenantry.capabilities.sandboxes.service.attempt import Workshop
from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.service.dispatch import Dispatcher
from tenantry.capabilities.sandboxes.service.image_sweep import sweep_images
from tenantry.capabilities.sandboxes.service.images import ImageLibrary, ImageService
from tenantry.capabilities.sandboxes.service.jobs import JobService
from tenantry.capabilities.sandboxes.service.news import JobNews
from tenantry.capabilities.sandboxes.service.purge import purge_due
from tenantry.capabilities.sandboxes.service.runner import JobRunner
from tenantry.capabilities.sandboxes.service.worker_identity import worker_identity

__all__ = [
    "Dispatcher",
    "ImageLibrary",
    "ImageService",
    "JobContent",
    "JobNews",
    "JobRunner",
    "JobService",
    "Workshop",
    "purge_due",
    "sweep_images",
    "worker_identity",
]
