"""What the jail refuses, under the product's one tree.

JailUnavailable(Unavailable)   this machine cannot hold a sandbox now; fields: remedy
SpecInvalid(Invalid)           a spec breaks a rule; fields: field, rule
ImageInvalid(Invalid)          an archive or directory is no image one may trust; fields: rule
TreeInvalid(Invalid)           a tree that is carried is none one may trust, or does not fit; fields: rule
ImageTooLarge(ImageInvalid)    its root takes more than there is room for; attribute: bytes
ImageNotFound(NotFound)        no image has that digest
SandboxBusy(Conflict)          asked of a living sandbox what only a dead one answers
SandboxEnded(Conflict)         asked of a dead sandbox what only a living one does
ExecsExhausted(Exhausted)      as many programs were put into it as it may have at a time; fields: limit
FileMissing(NotFound)          nothing is there; fields: path, as of the next three
FileConflict(Conflict)         something else is there than was asked for
FileRefused(Denied)            it lies behind a link, or the sandbox's user may not
FileFull(Exhausted)            too large, too many, or no room
WatchesExhausted(Unavailable)  the kernel lets this user watch nothing more; fields: remedy, retry_after
"""

from tenantry.foundation.errors import Conflict, Denied, Exhausted, Invalid, NotFound, Unavailable


class JailUnavailable(Unavailable):
    def __init__(self, code: str, message: str, *, remedy: str = "") -> None:
        super().__init__(code, message, layer="jail", remedy=remedy)


class SpecInvalid(Invalid):
    def __init__(self, field: str, rule: str) -> None:
        super().__init__("sandbox_spec_invalid", f"{field}: {rule}", layer="jail", field=field, rule=rule)


class ImageInvalid(Invalid):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, layer="jail", rule=code)


class ImageTooLarge(ImageInvalid):
    """`bytes` is what its root takes, or what it took at least when its unpacking was ended."""

    def __init__(self, size: int, *, most: int) -> None:
        super().__init__("image_too_large", f"its root takes at least {size} bytes, and there is room for {most}")
        self.bytes = size


class TreeInvalid(Invalid):
    def __init__(self, rule: str) -> None:
        super().__init__("workspace_tree_invalid", f"what is carried into /workspace: {rule}", layer="jail", rule=rule)


class ImageNotFound(NotFound):
    def __init__(self, digest: str) -> None:
        super().__init__("image_not_found", f"no image {digest} in this store: import it first", layer="jail")


class SandboxBusy(Conflict):
    def __init__(self, verb: str) -> None:
        super().__init__("sandbox_alive", f"{verb} needs a dead sandbox: await wait() first", layer="jail")


class SandboxEnded(Conflict):
    def __init__(self, verb: str) -> None:
        super().__init__("sandbox_ended", f"{verb} needs a living sandbox: start it again", layer="jail")


class ExecsExhausted(Exhausted):
    def __init__(self, limit: int) -> None:
        super().__init__(
            "execs_exhausted", f"{limit} programs run in it beside its own: end one", layer="jail", limit=limit
        )


class FileMissing(NotFound):
    def __init__(self, path: str) -> None:
        super().__init__("file_not_found", "nothing is there in /workspace", layer="jail", path=path)


class FileConflict(Conflict):
    def __init__(self, code: str, message: str, *, path: str) -> None:
        super().__init__(code, message, layer="jail", path=path)


class FileRefused(Denied):
    def __init__(self, code: str, message: str, *, path: str) -> None:
        super().__init__(code, message, layer="jail", path=path)


class FileFull(Exhausted):
    def __init__(self, code: str, message: str, *, path: str) -> None:
        super().__init__(code, message, layer="jail", path=path)


class WatchesExhausted(Unavailable):
    def __init__(self) -> None:
        super().__init__(
            "watches_exhausted",
            "the machine of this sandbox can watch nothing more at present: try again later",
            layer="jail",
            remedy="for its operator: sysctl -w fs.inotify.max_user_instances=1024",
            retry_after=10,
        )
