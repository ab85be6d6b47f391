"""Rows 4 and 16: what happens in the process alone: `decide()`, and sealing under a tenant's keyset."""

import json
import time
from collections.abc import Callable
from itertools import cycle
from uuid import uuid4

from cryptography.fernet import Fernet, MultiFernet

from bench.installation import Installation
from bench.report import Bar, Result, Series
from tenantry.capabilities.access.service import compile_access, decide
from tenantry.capabilities.access.types import BUILT_IN_ROLES, Permission, Source
from tenantry.engines.envelope.keyset import Keyset

_ROLES = ("operator", "approver", "auditor", "viewer", "deployer", "ci")
_BLOCK_SECONDS = 0.001
_ASKED = (Permission.JOB_CREATE, Permission.AUDIT_READ, Permission.SECRET_ADMIN, Permission.DEPLOYMENT_APPLY)


async def access(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - nothing is asked of it
    """Row 4: six roles in two places, four questions of which one is refused."""
    result = Result("4", "decide() with roles and the reason — against pycasbin and cedarpy")
    here, elsewhere = uuid4(), uuid4()
    sources = [
        Source(here if n % 2 else elsewhere, f"role {role}", BUILT_IN_ROLES[role]) for n, role in enumerate(_ROLES)
    ]
    compiled = compile_access(sources)
    asked = cycle(_ASKED)
    ways: dict[str, Callable[[], object]] = {"decide": lambda: decide(compiled, next(asked), here)}
    policy = {role: sorted(BUILT_IN_ROLES[role]) for n, role in enumerate(_ROLES) if n % 2}
    for name, make in (("pycasbin FastEnforcer", _casbin), ("cedarpy, parsed handles", _cedar)):
        try:
            ways[name] = make(policy)
        except ImportError:
            result.remarks.append(f"{name}: not measured, install the dependency group `bench`")
    result.series = interleaved(ways, blocks=20 if quick else 400)
    own = result.series[0].percentile(0.5)
    result.bars.append(Bar("p50", own, 0.5, unit=" µs"))
    result.bars += [Bar(f"faster than {s.name}", s.percentile(0.5) / own, 50, least=True) for s in result.series[1:]]
    return [result]


def _casbin(policy: dict[str, list[Permission]]) -> Callable[[], object]:
    import casbin

    model = casbin.Model()
    model.load_model_from_text(
        """
        [request_definition]
        r = sub, act
        [policy_definition]
        p = sub, act
        [role_definition]
        g = _, _
        [policy_effect]
        e = some(where (p.eft == allow))
        [matchers]
        m = g(r.sub, p.sub) && r.act == p.act
        """
    )
    enforcer = casbin.FastEnforcer(model, cache_key_order=[1])
    enforcer.add_policies([[role, str(permission)] for role, held in policy.items() for permission in held])
    enforcer.add_grouping_policies([["key", role] for role in policy])
    asked = cycle(_ASKED)
    return lambda: enforcer.enforce_ex("key", str(next(asked)))


def _cedar(policy: dict[str, list[Permission]]) -> Callable[[], object]:
    import cedarpy

    text = "\n".join(
        f'permit(principal in Role::"{role}", action in [{", ".join(f"""Action::"{p}" """ for p in held)}], resource);'
        for role, held in policy.items()
    )
    policies = cedarpy.PolicySet.from_str(text)
    parents = [{"type": "Role", "id": role} for role in policy]
    graph = [{"uid": {"type": "Key", "id": "key"}, "attrs": {}, "parents": parents}]
    graph += [{"uid": uid, "attrs": {}, "parents": []} for uid in parents]
    entities = cedarpy.Entities.from_json_str(json.dumps(graph))
    asked = cycle(
        [{"principal": 'Key::"key"', "action": f'Action::"{p}"', "resource": 'Place::"here"'} for p in _ASKED]
    )
    return lambda: cedarpy.is_authorized(next(asked), policies, entities)


async def envelope(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - nothing is asked of it
    """Row 16: ten keys in the keyset; what is opened was sealed by the oldest."""
    results = []
    keyset = Keyset.create()
    for size, name in ((100, "100 B"), (4096, "4 KiB")):
        plain = b"\x5a" * size
        old = keyset.seal(plain, b"row")
        rotated = keyset
        for _ in range(9):
            rotated = rotated.rotated()
        keys = [Fernet(Fernet.generate_key()) for _ in range(10)]
        single, many = keys[0], MultiFernet(keys)
        token_one, token_old = single.encrypt(plain), keys[-1].encrypt(plain)
        ways = _envelope_ways(rotated, plain, old, single, many, token_one, token_old)
        result = Result("16", f"seal and open {name}, 10 keys in the keyset — against Fernet and MultiFernet")
        result.series = interleaved(ways, blocks=20 if quick else 400)
        ours, one, ten = (s.percentile(0.5) for s in result.series)
        result.bars.append(Bar("faster than Fernet", one / ours, 4, least=True))
        result.bars.append(Bar("faster than MultiFernet", ten / ours, 10, least=True))
        results.append(result)
    return results


def _envelope_ways(
    keyset: Keyset, plain: bytes, old: bytes, single: Fernet, many: MultiFernet, token_one: bytes, token_old: bytes
) -> dict[str, Callable[[], object]]:
    return {
        "keyset": lambda: (keyset.seal(plain, b"row"), keyset.open(old, b"row")),
        "Fernet": lambda: (single.encrypt(plain), single.decrypt(token_one)),
        "MultiFernet": lambda: (many.encrypt(plain), many.decrypt(token_old)),
    }


def interleaved(ways: dict[str, Callable[[], object]], *, blocks: int) -> list[Series]:
    """A sample is the mean of one block: single calls are shorter than reading the clock.

    All blocks last about as long: on a busy machine a longer one is interrupted more often, which would flatter the
    faster of two.
    """
    series = [Series(name, unit="µs") for name in ways]
    times = [max(1, int(_BLOCK_SECONDS / _seconds(call, 20))) for call in ways.values()]
    for _ in range(blocks):
        for one, call, calls in zip(series, ways.values(), times, strict=True):
            one.samples.append(_seconds(call, calls) * 1e6)
    return series


def _seconds(call: Callable[[], object], calls: int) -> float:
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begun) / calls
