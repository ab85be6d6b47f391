"""The pages by file name; each is a function without arguments that gives its text."""

from collections.abc import Callable
from typing import Final

from scripts.reference import actions, api, cli, errors, escape, fields, metrics, permissions, settings

PAGES: Final[dict[str, Callable[[], str]]] = {
    "api.md": api.render,
    "audit-actions.md": actions.render,
    "audit-fields.md": fields.render,
    "cli.md": cli.render,
    "errors.md": errors.render,
    "escape-suite.md": escape.render,
    "metrics.md": metrics.render,
    "permissions.md": permissions.render,
    "settings.md": settings.render,
}
