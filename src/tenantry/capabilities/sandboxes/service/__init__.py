"""The face of sandboxes: jobs, images, their content, and what a worker runs."""

from tenantry.capabilities.sandboxes.service.arrival import JobArrival
from tenantry.capabilities.sandboxes.service.attempt import Workshop
from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.service.content_kind import JobContentKind
from tenantry.capabilities.sandboxes.service.dispatch import Dispatcher
from tenantry.capabilities.sandboxes.service.image_files import TenantImages
from tenantry.capabilities.sandboxes.service.image_pulls import ImagePulls
from tenantry.capabilities.sandboxes.service.image_sweep import sweep_images
from tenantry.capabilities.sandboxes.service.images import ImageLibrary, ImageService
from tenantry.capabilities.sandboxes.service.job_secrets import SecretOpener
from tenantry.capabilities.sandboxes.service.jobs import JobService
from tenantry.capabilities.sandboxes.service.live import LiveSandboxService
from tenantry.capabilities.sandboxes.service.live_client import LiveClient, LiveExecution, LiveFiles
from tenantry.capabilities.sandboxes.service.measuring import ImageTakings, JobTakings, StoredContent
from tenantry.capabilities.sandboxes.service.news import JobNews
from tenantry.capabilities.sandboxes.service.port_tokens import PORT_TOKEN, PortToken, PortTokenReader, PortTokens
from tenantry.capabilities.sandboxes.service.queue_relay import QueueRelay
from tenantry.capabilities.sandboxes.service.rechecking import PastJobs, QueuedJobs
from tenantry.capabilities.sandboxes.service.runner import JobRunner
from tenantry.capabilities.sandboxes.service.sharing import QueueShares
from tenantry.capabilities.sandboxes.service.stopping import JobStopper
from tenantry.capabilities.sandboxes.service.transient import TransientKeys
from tenantry.capabilities.sandboxes.service.waiting import HOLDERS, QueueView, explain_waiting
from tenantry.capabilities.sandboxes.service.worker_identity import worker_identity

__all__ = [
    "HOLDERS",
    "PORT_TOKEN",
    "Dispatcher",
    "ImageLibrary",
    "ImagePulls",
    "ImageService",
    "ImageTakings",
    "JobArrival",
    "JobContent",
    "JobContentKind",
    "JobNews",
    "JobRunner",
    "JobService",
    "JobStopper",
    "JobTakings",
    "LiveClient",
    "LiveExecution",
    "LiveFiles",
    "LiveSandboxService",
    "PastJobs",
    "PortToken",
    "PortTokenReader",
    "PortTokens",
    "QueueRelay",
    "QueueShares",
    "QueueView",
    "QueuedJobs",
    "SecretOpener",
    "StoredContent",
    "TenantImages",
    "TransientKeys",
    "Workshop",
    "explain_waiting",
    "sweep_images",
    "worker_identity",
]
