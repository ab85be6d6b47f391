"""The namespaces a program is in and the file systems it sees: none of them the host's."""

import errno
import os
import socket
import stat
from collections.abc import Callable
from functools import partial
from typing import Final

from tenantry.engines.jail.escape.cases import (
    PLAN,
    Attempt,
    Case,
    Verdict,
    equal,
    libc,
    opening,
    outcome,
    read,
    refused,
)

_KINDS: Final = ("user", "pid", "net", "ipc", "uts", "mnt", "cgroup")
_READ_ONLY: Final = ("/", "/usr", "/etc", "/dev", "/inputs", "/var", "/sys")
_WRITABLE: Final = ("/workspace", "/tmp", "/dev/shm", "/run")
_WRITES: Final = (
    "/x", "/usr/x", "/usr/bin/x", "/usr/lib/x", "/etc/x", "/etc/ssl/x", "/dev/x", "/var/x", "/sys/x", "/inputs/x",
    "/proc/x", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/resolv.conf", "/usr/bin/env", "/inputs/plan.json",
)  # fmt: skip
_ABSENT: Final = (
    "/root", "/home", "/boot", "/mnt", "/media", "/srv", "/lost+found", "/etc/shadow", "/etc/gshadow",
    "/etc/sudoers", "/etc/ssh", "/etc/machine-id", "/etc/hostname", "/etc/fstab", "/etc/kubernetes",
    "/etc/systemd", "/var/lib", "/var/log", "/var/run", "/var/spool", "/var/cache", "/run/docker.sock",
    "/run/containerd", "/run/systemd", "/run/dbus", "/run/user", "/run/tenantry", "/run/secrets", "/run/udev",
    "/oldroot", "/newroot", "/.dockerenv", "/sys/kernel", "/sys/fs", "/sys/class", "/sys/devices",
    "/sys/firmware", "/sys/module", "/tmp/.X11-unix", "/host", "/hostfs",
)  # fmt: skip


def _inode(kind: str) -> int:
    return os.stat(f"/proc/self/ns/{kind}").st_ino


def _other_than_the_hosts(kind: str) -> Attempt:
    return lambda: (_inode(kind) != PLAN["host_namespaces"][kind], f"{_inode(kind)}")


def _own_processes() -> Verdict:
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
    return set(pids) <= {1, os.getpid()} and os.getppid() == PLAN["parent"], f"{pids} below {os.getppid()}"


def _sysv_objects() -> Verdict:
    held = [name for name in ("msg", "sem", "shm") if len(read(f"/proc/sysvipc/{name}").splitlines()) > 1]
    return not held, " ".join(held)


def _neighbours_shared_memory() -> None:
    """Attach to the segment the supervisor has made under this key."""
    libc("shmget", PLAN["shared_memory_key"], 0, 0)


def _enter(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        libc("setns", descriptor, 0)
    finally:
        os.close(descriptor)


def _flag(path: str, flag: int) -> Attempt:
    return lambda: (bool(os.statvfs(path).f_flag & flag), f"{os.statvfs(path).f_flag:x}")


def _mount_points() -> dict[str, str]:
    """Options of the mount that is uppermost at each place."""
    lines = (line.split() for line in read("/proc/self/mountinfo").splitlines())
    return {fields[4]: fields[5] for fields in lines}


def _only_known_mounts() -> Verdict:
    devices = {
        f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "pts", "console", "ptmx")
    }
    known = {"/", "/proc", "/dev", "/inputs", *_WRITABLE, *devices, *PLAN["binds"]}
    found = {place for place in _mount_points() if not (place in PLAN["masks"] and _hides(place))}
    return found <= known, " ".join(sorted(found - known))


def _hides(place: str) -> bool:
    """Say whether a mount below /proc only takes away: read-only, or nothing to read."""
    return "ro" in _mount_points()[place].split(",") or not read(place)


def _image_is_whole() -> Verdict:
    """Look at everything the image binds: there, and a read-only mount."""
    mounted = _mount_points()
    wrong = [
        place for place in PLAN["binds"] if not {"ro", "nosuid", "nodev"} <= set(mounted.get(place, "").split(","))
    ]
    return not wrong, " ".join(wrong)


def _size(path: str) -> Attempt:
    def attempt() -> Verdict:
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize == PLAN["sizes"][path], f"{found.f_blocks * found.f_frsize}"

    return attempt


def _own_file_system(path: str) -> Attempt:
    return lambda: (path in _mount_points() and os.stat(path).st_dev != os.stat("/").st_dev, str(os.stat(path).st_dev))


def _mode(path: str, wanted: int) -> Attempt:
    return equal(lambda: oct(os.stat(path).st_mode & 0o7777), oct(wanted))


def _writes(path: str) -> Attempt:
    flags = os.O_WRONLY | (0 if os.path.splitext(path)[1] or path == "/usr/bin/env" else os.O_CREAT)
    return refused(opening(path, flags))


def _absent(path: str) -> Attempt:
    def attempt() -> Verdict:
        try:
            mode = os.stat(path).st_mode
            seen = os.listdir(path) if stat.S_ISDIR(mode) else [path]
        except OSError as error:
            return error.errno in {errno.ENOENT, errno.EACCES, errno.ENOTDIR}, str(error.errno)
        return not seen, " ".join(seen[:5])

    return attempt


def _outputs() -> Verdict:
    with open("/outputs/try", "w") as target:
        target.write("x")
    os.unlink("/workspace/outputs/try")
    return os.readlink("/outputs") == "workspace/outputs", os.readlink("/outputs")


def _above_the_root() -> Verdict:
    places = ("/..", "/../..", "/workspace/../..", "/proc/self/root", "/proc/1/root", "/proc/self/root/..")
    root = os.stat("/")
    strange = [place for place in places if not _is_root_or_closed(place, root)]
    return not strange, " ".join(strange)


def _is_root_or_closed(place: str, root: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(place), root)
    except PermissionError:
        return PLAN["builder"] != "bubblewrap" and place.startswith("/proc/1/")


def _link(make: Callable[[str], None]) -> Attempt:
    """Make a link to a place of the host, and see that it leads nowhere."""

    def attempt() -> Verdict:
        place = "/workspace/link"
        try:
            if failure := outcome(lambda: make(place)):
                return True, failure
            return bool(outcome(lambda: os.close(os.open(place, os.O_RDONLY)))), "it opened"
        finally:
            if os.path.lexists(place):
                os.unlink(place)

    return attempt


def _symbolic(target: str) -> Attempt:
    return _link(lambda place: os.symlink(target, place))


CASES: Final = (
    *(Case("namespaces", f"{kind}_is_not_the_hosts", "another inode", _other_than_the_hosts(kind)) for kind in _KINDS),
    Case("namespaces", "own_processes_only", "process 1 and itself, whose parent is that or outside", _own_processes),
    Case("namespaces", "hostname", "sandbox", equal(socket.gethostname, "sandbox")),
    Case("namespaces", "no_system_v_objects", "none of the host's", _sysv_objects),
    Case("namespaces", "shared_memory_of_the_host", "refused: no such key", refused(_neighbours_shared_memory)),
    Case("namespaces", "cgroup_tree_is_hidden", "its own group is the root", lambda: (
        all(line.endswith(":/") for line in read("/proc/self/cgroup").splitlines()), read("/proc/self/cgroup"))),
    *(Case("namespaces", f"enter_{kind}_of_process_1", "refused", refused(partial(_enter, f"/proc/1/ns/{kind}")))
      for kind in _KINDS),
    *(Case("mounts", f"read_only_{path}", "the mount says so", _flag(path, os.ST_RDONLY)) for path in _READ_ONLY),
    *(Case("mounts", f"nosuid_{path}", "the mount says so", _flag(path, os.ST_NOSUID))
      for path in (*_READ_ONLY, *_WRITABLE, "/proc")),
    *(Case("mounts", f"nodev_{path}", "the mount says so", _flag(path, os.ST_NODEV))
      for path in (*_READ_ONLY, *_WRITABLE, "/proc")),
    Case("mounts", "noexec_/proc", "the mount says so", _flag("/proc", os.ST_NOEXEC)),
    *(Case("mounts", f"write_{path}", "refused", _writes(path)) for path in _WRITES),
    *(Case("mounts", f"absent_{path}", "nothing is there", _absent(path)) for path in _ABSENT),
    *(Case("mounts", f"own_{path}", "a file system of its own", _own_file_system(path)) for path in _WRITABLE),
    *(Case("mounts", f"size_{path}", "as its limits say", _size(path)) for path in _WRITABLE),
    Case("mounts", "size_/inputs", "what it was given and some room", lambda: (
        os.statvfs("/inputs").f_blocks * os.statvfs("/inputs").f_frsize <= PLAN["sizes"]["/inputs"], "")),
    *(Case("mounts", f"mode_{path}", f"{mode:o}", _mode(path, mode)) for path, mode in (
        ("/workspace", 0o755), ("/run", 0o755), ("/inputs", 0o755), ("/tmp", 0o1777), ("/dev/shm", 0o1777))),
    Case("mounts", "nothing_else_is_mounted", "known places only", _only_known_mounts),
    Case("mounts", "image_is_whole", "every part, read-only", _image_is_whole),
    Case("mounts", "outputs_lie_in_workspace", "one size bounds both", _outputs),
    Case("mounts", "above_the_root", "the root, or refused", _above_the_root),
    Case("mounts", "remount_the_root", "refused", refused(lambda: libc("mount", b"none", b"/", None, 32, None))),
    Case("mounts", "mount_a_tmpfs", "refused", refused(lambda: libc("mount", b"none", b"/tmp", b"tmpfs", 0, None))),
    Case("mounts", "bind_the_root", "refused", refused(lambda: libc("mount", b"/", b"/tmp", None, 4096, None))),
    Case("mounts", "unmount_inputs", "refused", refused(lambda: libc("umount2", b"/inputs", 2))),
    Case("mounts", "change_root", "refused", refused(lambda: os.chroot("/tmp"))),
    Case("mounts", "chmod_inputs", "refused", refused(
        lambda: os.chmod("/inputs/plan.json", 0o644), lambda: os.unlink("/inputs/plan.json"))),
    *(Case("mounts", f"link_to_{target}", "leads nowhere", _symbolic(target)) for target in (
        "/root/.ssh/id_rsa", "../../etc/shadow", "/proc/1/root/etc/shadow", "/proc/self/fd/3", "/dev/mem")),
    Case("mounts", "hard_link_out_of_the_image", "refused: another file system",
         _link(lambda place: os.link("/etc/passwd", place))),
)  # fmt: skip
