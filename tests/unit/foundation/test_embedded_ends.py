"""The end of a process is waited for whatever number its handle has."""

import os
import resource
import signal
import subprocess

from tenantry.foundation.database.embedded import _signalled

MORE_THAN_SELECT_KNOWS = 1100


def test_a_process_is_waited_for_by_a_handle_of_any_number() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * MORE_THAN_SELECT_KNOWS)), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(MORE_THAN_SELECT_KNOWS)]
    try:
        with subprocess.Popen(["sleep", "60"]) as process:
            assert _signalled(process.pid, signal.SIGTERM, 10, lambda _: True)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
