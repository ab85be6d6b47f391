"""Jobs in sandboxes: one command in a fresh jail, with inputs, live logs, artifacts and a receipt from the kernel; and
sandboxes that live, each by a job whose program only waits.

Tables: `jobs`, `job_logs`, `artifacts`, `images`, `sandboxes`, `sandbox_trees`, `sandbox_snapshots`; in the schema
`queue` what the fair queue keeps, and `purges`.

Invariants:
- A job row, its audit event and its queue entry commit together; a result commits with the end of its queue entry,
  fenced by the attempt, so a job is never lost and never finished twice.
- A job that was running when its worker died is reported `failed`, reason `worker_lost`: never run again silently.
- Content (inputs, environment, logs, artifacts) is sealed under a key of the job before it is written anywhere; in mode
  `metadata_only` it goes `content_grace_seconds` after the end, and the key with it; the environment at the end.
- A kept tree of a sandbox is sealed under a key of its own, never written again, and goes with the last row that begins
  from it; what speaks with a running sandbox was decided on by the API process, for that sandbox and that job.
- Locked in this order: a job, its claim, its sandbox, a tree; counters last.
- No downgrade of isolation: a job whose workspace asks for more than the worker has is not run.
"""
