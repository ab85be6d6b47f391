"""Whether a candidate would be wider than what is in force, for all images or connections there are."""

import asyncio

from tenantry.capabilities.policies.errors import nothing_to_compare, policy_invalid, prover_missing, unproven
from tenantry.capabilities.policies.types import Policy, State
from tenantry.engines.rules.documents import Bundle, load
from tenantry.engines.rules.errors import DocumentError, ProverMissingError, Unproven
from tenantry.engines.rules.proof import Counterexample, widening
from tenantry.engines.rules.types import Kind


async def find_widening(kind: Kind, present: Policy | None, candidate: bytes) -> Counterexample | None:
    """Find what `candidate` allows and `present` denies; None is the proof that there is nothing.

    Raises Invalid `policy_invalid` or `proof_unsupported`, Unavailable `unproven`, Fault `prover_missing`.
    """
    if kind not in (Kind.IMAGE, Kind.NETWORK):
        raise nothing_to_compare(kind.value)
    old = None if present is None or present.state is not State.ENFORCED else _loaded(kind, present.source.encode())
    new = _loaded(kind, candidate)
    try:
        return await asyncio.to_thread(widening, old, new)
    except Unproven as error:
        raise unproven(str(error)) from None
    except ProverMissingError:
        raise prover_missing() from None


def _loaded(kind: Kind, content: bytes) -> Bundle:
    try:
        return load(kind, content)
    except DocumentError as error:
        raise policy_invalid(error.faults) from None
