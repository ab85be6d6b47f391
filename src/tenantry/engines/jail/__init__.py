"""A sandbox with no daemon: bubblewrap, cgroups and seccomp under a supervisor that reads back what the kernel did.

`Jail` starts sandboxes from a `Spec`, and so does `docker.DockerBackend`, in containers of an engine; `ImageStore`
keeps the read-only roots they start from, `probe` says whether this machine can hold one, `selftest` tries to get out
of one. README.md tells how and why.

Invariants: a sandbox has no network but `lo`, where at most its host listens; nothing of it outlives the process that
started it; a host uid is not used again before its processes and files are gone; a receipt holds what the kernel
answered, never what was asked; whatever cannot be confined is not started.
"""
