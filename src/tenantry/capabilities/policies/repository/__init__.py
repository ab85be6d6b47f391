"""All SQL of policies."""

from tenantry.capabilities.policies.repository.decisions import find_decision_of, insert_decision, list_shadowed
from tenantry.capabilities.policies.repository.exemptions import (
    find_exemption,
    insert_exemption,
    list_exemptions,
    list_open,
    revoke_exemption,
)
from tenantry.capabilities.policies.repository.policies import (
    find_policy,
    insert_policy,
    list_live,
    list_policies,
    lock_kind,
    set_state,
)

__all__ = [
    "find_decision_of",
    "find_exemption",
    "find_policy",
    "insert_decision",
    "insert_exemption",
    "insert_policy",
    "list_exemptions",
    "list_live",
    "list_open",
    "list_policies",
    "list_shadowed",
    "lock_kind",
    "revoke_exemption",
    "set_state",
]
