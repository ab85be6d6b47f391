"""Is one document wider than another? Answered by z3 for all images or connections there are, not for samples."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from tenantry.engines.rules.documents import Bundle
from tenantry.engines.rules.errors import ProverMissingError, Unproven
from tenantry.engines.rules.images import ImageRules
from tenantry.engines.rules.network import NetworkTable
from tenantry.engines.rules.proof_images import image_questions
from tenantry.engines.rules.proof_network import connection_questions
from tenantry.engines.rules.types import EVERYTHING, Connection, Effect, Finding, Kind

SECONDS: Final = 5.0
_ONE_AT_A_TIME: Final = threading.Lock()  # z3's terms belong to one context, which threads must not share


@dataclass(frozen=True, slots=True)
class Counterexample:
    """What the new document allows and the old one denies, by `denied`. Both have been asked themselves."""

    subject: str
    denied: Finding
    image: str | None = None
    connection: Connection | None = None


@dataclass(slots=True)
class _Prover:
    z3: ModuleType
    deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS)

    def model(self, question: Iterable[Any]) -> Any:
        """Give a model of all terms together, None if there is none. Raises Unproven when time is over."""
        left = int((self.deadline - time.monotonic()) * 1000)
        solver = self.z3.Solver()
        if left <= 0:
            raise Unproven(f"not settled within {SECONDS:.0f} seconds")
        solver.set("timeout", left)
        solver.add(*question)
        answer = solver.check()
        if answer == self.z3.unknown:
            raise Unproven(f"not settled within {SECONDS:.0f} seconds")
        return solver.model() if answer == self.z3.sat else None


def widening(old: Bundle | None, new: Bundle) -> Counterexample | None:
    """Find something that `new` allows and `old` denies; None is the proof that there is nothing.

    For the kinds image and network, without resolved digests and wildcards that a job asks for. Without `old` all was
    allowed, so nothing can widen it. Raises Unproven, and ProverMissingError without the extra `proof`.
    """
    if new.kind not in {Kind.IMAGE, Kind.NETWORK}:
        raise Unproven(f"documents of the kind {new.kind} are not compared")
    if old is None:
        return None
    if old.kind is not new.kind:
        raise ValueError("two documents of different kinds")
    if old.digest == new.digest:
        return None
    if new.applies_to not in {EVERYTHING, old.applies_to}:
        raise Unproven("applies_to differs, so the new document leaves out what the old one may have judged")
    with _ONE_AT_A_TIME:
        prover = _Prover(_z3())
        if isinstance(old.compiled, ImageRules) and isinstance(new.compiled, ImageRules):
            return _wider_images(prover, old.compiled, new.compiled)
        if isinstance(old.compiled, NetworkTable) and isinstance(new.compiled, NetworkTable):
            return _wider_network(prover, old.compiled, new.compiled)
    raise AssertionError("a bundle is compiled as its kind")


def _wider_images(prover: _Prover, old: ImageRules, new: ImageRules) -> Counterexample | None:
    for question, read in image_questions(prover.z3, old, new):
        model = prover.model(question)
        if model is not None:
            image = read(model)
            denied = old.check(image).decisive
            if denied is None or new.check(image).effect is Effect.DENY:
                raise Unproven(f"{image!r} was found, but the documents judge it otherwise")
            return Counterexample(image, denied, image=image)
    return None


def _wider_network(prover: _Prover, old: NetworkTable, new: NetworkTable) -> Counterexample | None:
    for question, read in connection_questions(prover.z3, old, new):
        model = prover.model(question)
        if model is not None:
            found = read(model)
            denied = old.decide(found.phase, found.host, found.port).decisive
            if denied is None or new.decide(found.phase, found.host, found.port).effect is Effect.DENY:
                raise Unproven(f"{found} was found, but the documents judge it otherwise")
            return Counterexample(f"{found.host}:{found.port} in {found.phase}", denied, connection=found)
    return None


def _z3() -> ModuleType:
    try:
        import z3
    except ImportError:
        raise ProverMissingError("proofs need z3-solver: install the extra `proof`") from None
    module: ModuleType = z3
    return module
