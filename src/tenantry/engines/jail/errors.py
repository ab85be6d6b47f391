"""What the jail refuses, under the product's one tree.

JailUnavailable(Unavailable)   this machine cannot hold a sandbox now; fields: remedy
SpecInvalid(Invalid)           a spec breaks a rule; fields: field, rule
ImageInvalid(Invalid)          an archive or directory is no image one may trust; fields: rule
TreeInvalid(Invalid)           a tree that is carried is none one may trust, or does not fit; fields: rule
ImageNotFound(NotFound)        no image has that digest
SandboxBusy(Conflict)          asked of a living sandbox what only a dead one answers
"""

from tenantry.foundation.errors import Conflict, Invalid, NotFound, Unavailable


class JailUnavailable(Unavailable):
    def __init__(self, code: str, message: str, *, remedy: str = "") -> None:
        super().__init__(code, message, layer="jail", remedy=remedy)


class SpecInvalid(Invalid):
    def __init__(self, field: str, rule: str) -> None:
        super().__init__("sandbox_spec_invalid", f"{field}: {rule}", layer="jail", field=field, rule=rule)


class ImageInvalid(Invalid):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, layer="jail", rule=code)


class TreeInvalid(Invalid):
    def __init__(self, rule: str) -> None:
        super().__init__("workspace_tree_invalid", f"what is carried into /workspace: {rule}", layer="jail", rule=rule)


class ImageNotFound(NotFound):
    def __init__(self, digest: str) -> None:
        super().__init__("image_not_found", f"no image {digest} in this store: import it first", layer="jail")


class SandboxBusy(Conflict):
    def __init__(self, verb: str) -> None:
        super().__init__("sandbox_alive", f"{verb} needs a dead sandbox: await wait() first", layer="jail")
