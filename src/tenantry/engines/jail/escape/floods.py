"""Bombs that must meet a bound inside, each cleared away by who tries it. They come last: an unbounded one hurts."""

import errno
import mmap
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tenantry.engines.jail.escape.cases import PLAN, Attempt, Case, Verdict, name_of, outcome

_MIB: Final = 1 << 20
_ROOMS: Final = ("/workspace", "/tmp", "/dev/shm", "/run")
_DEEP: Final = 200


def _forks() -> Verdict:
    children: list[int] = []
    most = PLAN["pids"]
    try:
        for _ in range(most * 4):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
    except OSError as error:
        return len(children) < most + 4, f"{name_of(error.errno or 0)} after {len(children)}"
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return False, f"{len(children)} children"


def _threads() -> Verdict:
    gate, started = threading.Event(), 0
    threads = [threading.Thread(target=gate.wait, daemon=True) for _ in range(PLAN["pids"] * 4)]
    try:
        for thread in threads:
            thread.start()
            started += 1
    except RuntimeError as error:
        return started < PLAN["pids"] + 4, f"{error} after {started}"
    finally:
        gate.set()
        for thread in threads[:started]:
            thread.join()
    return False, f"{started} threads"


def _descriptors(make: Callable[[], tuple[int, ...]]) -> Attempt:
    def attempt() -> Verdict:
        held: list[int] = []
        try:
            for _ in range(PLAN["files"] * 4):
                held.extend(make())
        except OSError as error:
            return len(held) <= PLAN["files"], f"{name_of(error.errno or 0)} after {len(held)}"
        finally:
            for descriptor in held:
                os.close(descriptor)
        return False, f"{len(held)} descriptors"

    return attempt


def _pair() -> tuple[int, ...]:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


def _fill(place: str) -> Attempt:
    """Write pieces until the file system is full: one file has a limit of its own."""

    def attempt() -> Verdict:
        most, written, answer = PLAN["sizes"][place], 0, "it worked"
        piece = b"\1" * _MIB
        paths = [Path(f"{place}/bomb{number}") for number in range(4)]
        try:
            for path in paths:
                with path.open("wb", buffering=0) as target:
                    for _ in range(most // _MIB):
                        written += target.write(piece)
        except OSError as error:
            answer = name_of(error.errno or 0)
        for path in paths:
            path.unlink(missing_ok=True)
        return answer == "ENOSPC" and written <= most, f"{answer} at {written // _MIB} MiB"

    return attempt


def _giant(place: str) -> Attempt:
    def attempt() -> Verdict:
        path = f"{place}/giant"
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
        try:
            answer = outcome(lambda: os.truncate(descriptor, 1 << 40))
        finally:
            os.close(descriptor)
            os.unlink(path)
        return answer == "EFBIG", answer or "it worked"

    return attempt


def _file_beyond_its_bound() -> Verdict:
    """Lay out more than a file may have without writing it."""
    with tempfile.TemporaryFile(dir="/workspace") as target:
        answer = outcome(lambda: os.posix_fallocate(target.fileno(), 0, 1 << 32))
    return answer in {"EFBIG", "ENOSPC"}, answer or "it worked"


def _locked_memory() -> Verdict:
    with mmap.mmap(-1, 4 * _MIB) as page:
        import ctypes

        view = (ctypes.c_char * len(page)).from_buffer(page)
        failed = ctypes.CDLL(None, use_errno=True).mlock(ctypes.byref(view), ctypes.c_size_t(len(page)))
        number = ctypes.get_errno()
        del view
    return failed != 0, name_of(number)


def _depth() -> Verdict:
    """Nest directories: each costs an inode and nothing more, and a path has an end."""
    made, here = 0, os.open("/workspace", os.O_RDONLY)
    try:
        for _ in range(_DEEP):
            os.mkdir("deep", dir_fd=here)
            below = os.open("deep", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
            made += 1
    finally:
        os.close(here)
    long = "/workspace" + "/deep" * _DEEP + "/x" * 2000
    return outcome(lambda: os.mkdir(long)) == "ENAMETOOLONG", f"{made} levels"


def _names() -> Verdict:
    return outcome(lambda: os.mkdir("/workspace/" + "x" * 256)) == "ENAMETOOLONG", ""


def _pipe_space() -> Verdict:
    """Grow a pipe above what an ordinary user may have."""
    import fcntl

    one, other = os.pipe()
    answer = outcome(lambda: fcntl.fcntl(one, fcntl.F_SETPIPE_SZ, 1 << 30))
    os.close(one)
    os.close(other)
    return answer in {"EPERM", "ENOMEM", "EBUSY", "EINVAL"}, answer or "it worked"


def _processor_time() -> Verdict:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    return 0 < soft <= hard <= PLAN["rlimits"]["cpu"], f"{soft} s"


def _core_dump() -> Verdict:
    """Crash in a directory that may be written: no core file must come of it."""
    before = set(os.listdir("/workspace"))
    pid = os.fork()
    if pid == 0:
        os.chdir("/workspace")
        os.abort()
    _, status = os.waitpid(pid, 0)
    left = set(os.listdir("/workspace")) - before
    return not left and not os.WCOREDUMP(status), " ".join(left)


CASES: Final = (
    Case("bombs", "forks", "EAGAIN at the limit of tasks", _forks),
    Case("bombs", "threads", "refused at the limit of tasks", _threads),
    Case("bombs", "files", "EMFILE at the limit of descriptors", _descriptors(
        lambda: (os.open("/dev/null", os.O_RDONLY),))),
    Case("bombs", "pipes", "EMFILE at the limit of descriptors", _descriptors(os.pipe)),
    Case("bombs", "socket_pairs", "EMFILE at the limit of descriptors", _descriptors(_pair)),
    Case("bombs", "memory_files", "EMFILE at the limit of descriptors", _descriptors(lambda: (os.memfd_create("x"),))),
    Case("bombs", "events", "EMFILE at the limit of descriptors", _descriptors(lambda: (os.eventfd(0),))),
    *(Case("bombs", f"fill_{place}", "ENOSPC at its size", _fill(place)) for place in _ROOMS),
    *(Case("bombs", f"sparse_giant_in_{place}", "EFBIG", _giant(place)) for place in _ROOMS),
    Case("bombs", "laid_out_file", "EFBIG or ENOSPC", _file_beyond_its_bound),
    Case("bombs", "locked_memory", errno.errorcode[errno.ENOMEM], _locked_memory),
    Case("bombs", "deep_directories", "a path has an end", _depth),
    Case("bombs", "long_names", "ENAMETOOLONG", _names),
    Case("bombs", "pipe_space", "refused", _pipe_space),
    Case("bombs", "processor_time", "bounded", _processor_time),
    Case("bombs", "core_dump", "none is left", _core_dump),
)  # fmt: skip
