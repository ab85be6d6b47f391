"""The face of approvals: ask, decide, use, void; what becomes due; how long comments are kept."""

from tenantry.capabilities.approvals.service.approvals import ApprovalRules, ApprovalService
from tenantry.capabilities.approvals.service.comments import ApprovalComments, CommentKind
from tenantry.capabilities.approvals.service.due import APPROVALS_DUE
from tenantry.capabilities.approvals.service.records import approval_records

__all__ = ["APPROVALS_DUE", "ApprovalComments", "ApprovalRules", "ApprovalService", "CommentKind", "approval_records"]
