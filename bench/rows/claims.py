"""Row 14b: claims of the fair queue; `fairqueue_claim` measures, this shows it beside the bar."""

import asyncio
from typing import Any

from bench import fairqueue_claim
from bench.installation import Installation
from bench.report import Bar, Result

_SHAPES = ("1000x10000", "10000x100000")


async def measure(installation: Installation, *, quick: bool) -> list[Result]:  # noqa: ARG001 - it has its own server
    """Its own PostgreSQL, about half a minute; it has no quick mode."""
    figures: dict[str, Any] = await asyncio.to_thread(fairqueue_claim.run)
    result = Result("14b", "claim with 10 000 jobs of 1 000 tenants, and 100 000 of 10 000 — against an empty queue")
    for shape in _SHAPES:
        one, eight = figures[f"claim_{shape}_vacuumed_1"], figures[f"claim_{shape}_vacuumed_8"]
        result.bars.append(Bar(f"p50, {shape}", one["p50"], 1.0, unit=" ms"))
        result.bars.append(Bar(f"false empties at 8 claimers, {shape}", eight["empty"], 0, unit=""))
    result.bars.append(
        Bar("p50, beside 1 000 tenants at their cap", figures["claim_beside_1000_held"]["p50"], 1.0, unit=" ms")
    )
    result.remarks += [f"{name}: {value}" for name, value in figures.items()]
    return [result]
