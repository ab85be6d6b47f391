"""Which cases do not apply where a program's kernel is gVisor's, each with the reason."""

from typing import Final

from tenantry.engines.jail.escape.cases import Case

#: A case's code, or a group's name for all of it, by the reason why it is not tried.
NOT_APPLICABLE: Final[dict[str, tuple[str, ...]]] = {
    "a sandbox there has a network by a second runtime alone; where one is set, these cases are tried": ("egress",),
    "the host sees none of a program that is put in; what its own kernel says of it is compared with the receipt": (
        "exec.descriptors", "exec.inheritance", "exec.cgroup", "exec.bounds",
    ),
    "what waits there is another user's, of the image's own, so nobody looks at it nor writes to it": (
        "exec.keeper_is_read_only", "exec.executables_are_inside",
    ),
    "no program has a terminal there, and none can be asked for": ("exec.terminal",),
    "no launcher and no monitor stand between supervisor and program; the sentry's own cases are tried instead": (
        *(f"chain.launcher_{name}" for name in (
            "no_new_privs", "bounding_set", "ambient_set", "environment", "mounts", "core")),
        *(f"chain.monitor_{name}" for name in (
            "uid", "uid_unprivileged", "groups", "capinh", "capprm", "capeff", "capbnd", "capamb", "no_new_privs",
            "umask", "signals", "command_line", "environment", "directory", "core", "descriptors")),
        "chain.no_more_user_namespaces", "chain.no_user_namespaces", "chain.groups", "identity.dies_with_its_parent",
    ),
    "gVisor's procfs has no such file or line; what it would show is tried by other cases": (
        "identity.setgroups_denied", "identity.capamb_empty", "namespaces.ipc_is_not_the_hosts",
        "namespaces.uts_is_not_the_hosts", "namespaces.mnt_is_not_the_hosts", "namespaces.cgroup_is_not_the_hosts",
        "namespaces.no_system_v_objects", "procfs.no_frame_numbers", "procfs.no_keys",
    ),
    "statvfs(3) and mountinfo of gVisor tell no such flag; writing, and gaining by set-user-id, are tried themselves": (
        *(f"mounts.{flag}_{place}" for flag, places in (
            ("read_only", ("/", "/usr", "/etc", "/dev", "/inputs", "/var", "/sys")),
            ("nosuid", ("/", "/usr", "/etc", "/dev", "/inputs", "/var", "/sys", "/workspace", "/tmp", "/dev/shm",
                        "/run", "/proc")),
            ("nodev", ("/", "/usr", "/etc", "/dev", "/inputs", "/var", "/sys", "/workspace", "/tmp", "/dev/shm",
                       "/run", "/proc"))) for place in places),
        "mounts.noexec_/proc", "mounts.image_is_whole", "identity.setuid_programs",
    ),
    "the engine lays its mark there, which gVisor's exec finds in place: a name, nothing of the host": (
        "mounts.absent_/etc/hostname", "mounts.absent_/.dockerenv", "mounts.nothing_else_is_mounted",
    ),
    "what is there is gVisor's own, made by it and leading to nothing of the host": (
        "mounts.absent_/sys/fs", "mounts.absent_/sys/class", "mounts.absent_/sys/devices", "procfs.sys_is_empty",
        "devices.no_fuse", "devices.no_net/tun", "devices.nothing_else", "network.tunnel",
        *(f"devices.make_{kind}_in_{place}" for kind in ("character", "block") for place in (
            "/tmp", "/dev/shm", "/run")),
    ),
    "gVisor takes the call and holds the resource itself, within the group's memory": (
        "limits.msgqueue", "limits.msgqueue_stays", "limits.message_queues", "limits.nicer",
        "procfs.be_spared_by_the_oom_killer",
    ),
    "gVisor has one table of calls for every way in, and the filter judges all of them by it": ("kernel.int_0x80",),
    "gVisor makes no pipe in a directory of the host's": ("files.pipe", "files.hard_linked_pipe"),
    "some of gVisor's platforms share the host's pid namespace; that nothing is left is seen by the group": (
        "ends.processes",
    ),
}  # fmt: skip
_REASONS: Final = {code: reason for reason, codes in NOT_APPLICABLE.items() for code in codes}


def why_not(case: Case) -> str:
    """Give the reason why a case is not tried under gVisor, empty when it is.

    What does not apply to the program of a sandbox does not to one that was put in later either.
    """
    first = case.code.removeprefix("exec.")
    return _REASONS.get(case.code) or _REASONS.get(first) or _REASONS.get(case.group, "")
