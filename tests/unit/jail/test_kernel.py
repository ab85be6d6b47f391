import os
from pathlib import Path

import pytest

from tenantry.engines.jail.kernel import open_process, read_limits, read_namespaces, read_status


def test_a_process_of_another_namespace_is_not_opened() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for namespace in (None, 1, "4026531836"):
        with pytest.raises(ProcessLookupError):
            open_process(os.getpid(), pid_namespace=namespace)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    os.close(open_process(os.getpid(), pid_namespace=read_namespaces(os.getpid())["pid"]))


def test_what_the_kernel_says_is_read_whole() -> None:
    assert read_status(os.getpid())["Pid"] == str(os.getpid())
    assert {"nofile", "fsize", "core", "nproc"} <= set(read_limits(os.getpid()))
    assert set(read_namespaces(os.getpid())) == {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}
