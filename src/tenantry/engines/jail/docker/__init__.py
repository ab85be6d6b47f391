"""Sandboxes in containers of an engine that speaks Docker's API: Docker, or Podman's compatible service.

`DockerBackend` satisfies the same port as the jail (backend.py). The engine makes the room: root file system,
namespaces, cgroup, security label. Nothing of a spec reaches it but numbers; the program is put in by our own launcher
(containing.py), so command, environment, secrets and output never pass the engine. `probe_docker` tells what is
missing.
"""
