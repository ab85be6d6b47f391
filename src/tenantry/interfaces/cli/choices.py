"""What `workspace use` remembers, per server: `$TENANTRY_HOME/config.json`."""

from typing import Any

from tenantry.client.credentials import home_directory
from tenantry.client.private import read_private_json, write_private_json

_FILE_NAME = "config.json"


def stored_workspace(url: str) -> str | None:
    """Find the workspace chosen for this server."""
    chosen = _workspaces(_content()).get(url)
    return chosen if isinstance(chosen, str) else None


def store_workspace(*, url: str, workspace: str | None) -> None:
    """Remember, or forget with None."""
    content = _content()
    workspaces = {name: chosen for name, chosen in _workspaces(content).items() if name != url}
    if workspace is not None:
        workspaces[url] = workspace
    write_private_json(home_directory() / _FILE_NAME, {**content, "workspaces": workspaces})


def _content() -> dict[str, Any]:
    return read_private_json(home_directory() / _FILE_NAME) or {}


def _workspaces(content: dict[str, Any]) -> dict[str, Any]:
    workspaces = content.get("workspaces")
    return workspaces if isinstance(workspaces, dict) else {}
