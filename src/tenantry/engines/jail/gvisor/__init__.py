"""Sandboxes with a kernel of their own: gVisor's, in containers of an engine whose runtime is `runsc`.

`GvisorBackend` satisfies the same port as the jail (backend.py of the room above). The engine makes the container, the
runtime's `exec` starts the stepper in it, past the engine, and the stepper becomes the program. `probe_gvisor` tells
what is missing.
"""
