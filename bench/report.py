"""What a row measured, and how it is shown: percentiles and ratios, never a lone mean."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Series:
    """Samples of one thing under one name, in `unit`. `seconds`: the wall time of all together, failures too."""

    name: str
    samples: list[float] = field(default_factory=list)
    failures: int = 0
    seconds: float = 0.0
    unit: str = "ms"

    @property
    def rate(self) -> float | None:
        """Successes a second."""
        return len(self.samples) / self.seconds if self.seconds else None

    def percentile(self, part: float) -> float:
        """`part` in 0 to 1; nearest rank, NaN without samples."""
        if not self.samples:
            return float("nan")
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))]

    def add(self, other: "Series") -> None:
        """Join a later block of the same thing."""
        self.samples += other.samples
        self.failures += other.failures
        self.seconds += other.seconds


@dataclass(frozen=True, slots=True)
class Bar:
    """One number that the row promises. `least`: it may not be below `limit`, else not above."""

    name: str
    value: float
    limit: float
    least: bool = False
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        sign, verdict = "≥" if self.least else "≤", "met" if self.met else "MISSED"
        return f"{self.name}: {self.value:.3g}{self.unit} (bar {sign} {self.limit:g}{self.unit}) {verdict}"


@dataclass(slots=True)
class Result:
    """One row of the table in docs, measured."""

    row: str
    title: str
    series: list[Series] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)
    """SVG by name; written beside the record."""

    def as_record(self) -> dict[str, Any]:
        """Everything, raw samples included (4 significant digits)."""
        return {
            "row": self.row,
            "title": self.title,
            "bars": [
                {"name": b.name, "value": b.value, "limit": b.limit, "least": b.least, "unit": b.unit, "met": b.met}
                for b in self.bars
            ],
            "remarks": self.remarks,
            "series": [
                {
                    "name": s.name,
                    "unit": s.unit,
                    "count": len(s.samples),
                    "failures": s.failures,
                    "seconds": round(s.seconds, 3),
                    "p50": s.percentile(0.5),
                    "p95": s.percentile(0.95),
                    "p99": s.percentile(0.99),
                    "samples": [float(f"{sample:.4g}") for sample in s.samples],
                }
                for s in self.series
            ],
        }

    def table(self) -> str:
        width = max([len(s.name) for s in self.series], default=0)
        lines = [f"{self.row:>3}  {self.title}"]
        for s in self.series:
            rate = f"{s.rate:9.0f}/s" if s.rate else " " * 11
            lines.append(
                f"     {s.name:<{width}}  {len(s.samples):6d} ok {s.failures:3d} failed {rate}"
                f"   p50 {s.percentile(0.5):8.3f}  p95 {s.percentile(0.95):8.3f}  p99 {s.percentile(0.99):8.3f}"
                f" {s.unit}"
            )
        lines += [f"     → {bar}" for bar in self.bars]
        lines += [f"     · {remark}" for remark in self.remarks]
        return "\n".join(lines)


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the interleaved blocks, each divided by its neighbour: a burst of foreign load moves both."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
