"""A program that was put into a living sandbox: its output, its input, its end."""

from tenantry.engines.jail.exec_types import ExecOutcome, TerminalSize
from tenantry.engines.jail.types import Stream


class Execution:
    """Made by `Sandbox.exec`. Read it to its end, then `wait`; always `close`. Bound to the sandbox's event loop."""

    async def read(self) -> tuple[Stream, bytes] | None:
        """Wait for what it says next; None when it has ended and all of it was read. One reader at a time.

        A program whose output nobody reads waits for a reader.
        """
        raise NotImplementedError

    async def write(self, data: bytes) -> None:
        """Hand over all of `data` as its input; raises BrokenPipeError when it reads no more."""
        raise NotImplementedError

    def close_stdin(self) -> None:
        """End its input; a terminal is sent its end-of-file character. Idempotent."""
        raise NotImplementedError

    def resize(self, size: TerminalSize) -> None:
        """Give its terminal another size, which its foreground is told; raises SpecInvalid when it has none."""
        raise NotImplementedError

    def signal(self, number: int) -> None:
        """Send a signal to its process group; without effect once it has ended. Raises SpecInvalid for no signal."""
        raise NotImplementedError

    async def wait(self) -> ExecOutcome:
        """Wait for its end; may be awaited again, and cancelled without effect."""
        raise NotImplementedError

    async def close(self) -> None:
        """Kill what is left of its process group and give back its descriptors; idempotent."""
        raise NotImplementedError
