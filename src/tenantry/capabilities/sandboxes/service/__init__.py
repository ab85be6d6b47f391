"""The face of sandboxes: jobs, images, their content, and what a worker runs."""

from tenantry.capabilities.sandboxes.service.arrival import ImageArrival, JobArrival
from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.service.content_kind import JobContentKind
from tenantry.capabilities.sandboxes.service.dispatch import Dispatcher
from tenantry.capabilities.sandboxes.service.image_files import TenantImages
from tenantry.capabilities.sandboxes.service.image_pulls import ImagePulls
from tenantry.capabilities.sandboxes.service.image_sweep import sweep_images
from tenantry.capabilities.sandboxes.service.images import ImageLibrary, ImageService
from tenantry.capabilities.sandboxes.service.inspecting import KeptInspection
from tenantry.capabilities.sandboxes.service.job_evidence import JobEvidence
from tenantry.capabilities.sandboxes.service.job_secrets import SecretOpener
from tenantry.capabilities.sandboxes.service.jobs import JobService
from tenantry.capabilities.sandboxes.service.link_sockets import Door, UnixDoor
from tenantry.capabilities.sandboxes.service.link_tls import LinkCaller, LinkIdentity, TlsDoor
from tenantry.capabilities.sandboxes.service.live import LiveSandboxService
from tenantry.capabilities.sandboxes.service.live_client import LiveClient, LiveExecution, LiveFiles
from tenantry.capabilities.sandboxes.service.live_content import LiveContent
from tenantry.capabilities.sandboxes.service.live_kinds import SandboxKind, TreeKind
from tenantry.capabilities.sandboxes.service.live_link import LiveLink
from tenantry.capabilities.sandboxes.service.live_room import LiveRoom
from tenantry.capabilities.sandboxes.service.live_snapshots import SnapshotService
from tenantry.capabilities.sandboxes.service.measuring import ImageTakings, JobTakings, StoredContent, TreeTakings
from tenantry.capabilities.sandboxes.service.news import JobNews
from tenantry.capabilities.sandboxes.service.port_tokens import PORT_TOKEN, PortToken, PortTokenReader, PortTokens
from tenantry.capabilities.sandboxes.service.queue_relay import QueueRelay
from tenantry.capabilities.sandboxes.service.rechecking import PastJobs, QueuedJobs
from tenantry.capabilities.sandboxes.service.runner import JobRunner
from tenantry.capabilities.sandboxes.service.sharing import QueueShares
from tenantry.capabilities.sandboxes.service.stopping import JobStopper, SandboxDrain
from tenantry.capabilities.sandboxes.service.transient import TransientKeys
from tenantry.capabilities.sandboxes.service.waiting import HOLDERS, QueueView, explain_waiting
from tenantry.capabilities.sandboxes.service.worker_identity import worker_identity
from tenantry.capabilities.sandboxes.service.workshop import Workshop

__all__ = [
    "HOLDERS",
    "PORT_TOKEN",
    "Dispatcher",
    "Door",
    "ImageArrival",
    "ImageLibrary",
    "ImagePulls",
    "ImageService",
    "ImageTakings",
    "JobArrival",
    "JobContent",
    "JobContentKind",
    "JobEvidence",
    "JobNews",
    "JobRunner",
    "JobService",
    "JobStopper",
    "JobTakings",
    "KeptInspection",
    "LinkCaller",
    "LinkIdentity",
    "LiveClient",
    "LiveContent",
    "LiveExecution",
    "LiveFiles",
    "LiveLink",
    "LiveRoom",
    "LiveSandboxService",
    "PastJobs",
    "PortToken",
    "PortTokenReader",
    "PortTokens",
    "QueueRelay",
    "QueueShares",
    "QueueView",
    "QueuedJobs",
    "SandboxDrain",
    "SandboxKind",
    "SecretOpener",
    "SnapshotService",
    "StoredContent",
    "TenantImages",
    "TlsDoor",
    "TransientKeys",
    "TreeKind",
    "TreeTakings",
    "UnixDoor",
    "Workshop",
    "explain_waiting",
    "sweep_images",
    "worker_identity",
]
