"""How a running sandbox, and a path in one, is named on the command line."""

from typing import NamedTuple

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.invocation import Invocation

_ID = "sbx_"


class RemotePath(NamedTuple):
    sandbox: str
    path: str


def sandbox_id(cli: Invocation, named: str) -> str:
    """Find a sandbox by id or name; an id is not looked up. Raises BadRequest `sandbox_unknown`."""
    if named.startswith(_ID):
        return named
    for each in cli.client.sandboxes.list(cli.workspace):
        if each["name"] == named:
            return str(each["id"])
    raise BadRequest("sandbox_unknown", f"no sandbox is called {named!r} here", remedy="tenantry sandbox list")


def remote_path(text: str) -> RemotePath | None:
    """Read `NAME:/path`; None for a path of this machine, as anything with a slash before its colon is."""
    name, colon, path = text.partition(":")
    if not colon or not name or "/" in name:
        return None
    return RemotePath(name, path)
