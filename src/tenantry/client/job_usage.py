"""What a job used, as its answer tells."""

from typing import TypedDict


class JobUsage(TypedDict, total=False):
    """What a job used; empty until its end. The last four are there with a network alone."""

    cpu_seconds: float
    peak_memory_mib: float
    wall_seconds: float
    output_bytes: int
    read_bytes: int | None
    written_bytes: int | None
    oom_kills: int
    memory_limit_hits: int
    pids_refused: int
    throttled_seconds: float
    sent_bytes: int
    received_bytes: int
    connections: int
    denied_connections: int
