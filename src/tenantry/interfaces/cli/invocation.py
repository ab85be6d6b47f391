"""What every command has in hand, and how a function becomes a command.

A command is a function whose first parameter is an `Invocation`; the rest are its own arguments. `command` adds the
options commands share, and the example without which none is registered.
"""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, TypeVar

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.choices import stored_workspace
from tenantry.interfaces.cli.output import Columns, Format, say, show_json, show_record, show_table

if TYPE_CHECKING:
    from tenantry.client.pages import Pages
    from tenantry.client.surface import Client

P = ParamSpec("P")
M = TypeVar("M", bound=Mapping[str, Any])

DEFAULT_LIMIT = 100
_ID_PREFIX = "ws_"

OutputOption = Annotated[
    Format | None, typer.Option("--output", "-o", help="table (default), or json: the answer of the API")
]
WorkspaceOption = Annotated[
    str | None,
    typer.Option("--workspace", "-w", metavar="WS", help="id, name or path; else TENANTRY_WORKSPACE, `workspace use`"),
]
TenantOption = Annotated[
    str | None, typer.Option("--tenant", metavar="TENANT", help="id or slug: in the tenant instead of a workspace")
]
LimitOption = Annotated[int, typer.Option("--limit", min=0, help="at most so many; 0 for all")]
CursorOption = Annotated[str | None, typer.Option("--cursor", help="go on where a list ended")]


@dataclass(slots=True)
class Shared:
    """Values of the options before the command; `typer.Context.obj`."""

    output: Format = Format.TABLE
    workspace: str | None = None


@dataclass
class Invocation:
    """One run of one command. The client opens at its first use."""

    output: Format = Format.TABLE
    named_workspace: str | None = None
    tenant: str | None = None
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    _opened: "list[Client]" = field(default_factory=list)

    @cached_property
    def client(self) -> "Client":
        from tenantry.client.surface import Client

        client = Client()
        self._opened.append(client)
        return client

    @cached_property
    def workspace(self) -> str:
        """Its id; raises BadRequest when nothing says which."""
        return self.workspace_id(self._choice[0])

    @property
    def chosen_by(self) -> str:
        """Tell what names the workspace; an option counts more than the environment, and that more than `use`."""
        return self._choice[1]

    @cached_property
    def _choice(self) -> tuple[str, str]:
        if self.named_workspace:
            return self.named_workspace, "--workspace"
        if named := os.environ.get("TENANTRY_WORKSPACE"):
            return named, "TENANTRY_WORKSPACE"
        if stored := stored_workspace(self.client.transport.url):
            return stored, "workspace use"
        return self._only_workspace(), "being the only one"

    def workspace_id(self, named: str) -> str:
        """Find a workspace by id, name or path; an id is not looked up."""
        if named.startswith(_ID_PREFIX):
            return named
        found = [each["id"] for each in self.client.workspaces.list() if named in {each.get("name"), each.get("path")}]
        if len(found) != 1:
            what = "no workspace is" if not found else f"{len(found)} workspaces are"
            raise BadRequest("workspace_unknown", f"{what} called {named!r}", remedy="tenantry workspace list")
        return found[0]

    @property
    def place(self) -> dict[str, Any]:
        """The tenant where `--tenant` names one, else the workspace."""
        return {"tenant": self.tenant} if self.tenant else {"workspace": self.workspace}

    @cached_property
    def home_tenant(self) -> str:
        """The tenant that `--tenant` names, else the credential's own."""
        return self.tenant or str(self.client.me()["tenant"]["id"])

    @property
    def page(self) -> dict[str, Any]:
        """What `--limit` and `--cursor` said, for the SDK."""
        return {"limit": self.limit or None, "cursor": self.cursor}

    def show_list(self, pages: "Pages[M]", columns: Columns) -> None:
        self.show_items(list(pages), columns, next_cursor=pages.next_cursor)

    def show_items(self, items: Sequence[Mapping[str, Any]], columns: Columns, next_cursor: str | None = None) -> None:
        if self.output is Format.JSON:
            show_json({"items": items, "next_cursor": next_cursor})
            return
        show_table(items, columns)
        if next_cursor:
            say(f"there are more: --limit 0, or --cursor {next_cursor}")

    def show(self, answer: Mapping[str, Any] | None, *, done: str = "") -> None:
        """One answer; `done` is told where there is nothing to show."""
        if self.output is Format.JSON:
            show_json(answer)
        elif answer:
            show_record(answer)
        elif done:
            say(done)

    def close(self) -> None:
        for client in self._opened:
            client.close()

    def _only_workspace(self) -> str:
        reachable = [each["id"] for each in self.client.me().get("workspaces", [])]
        # A key of the whole tenant names none: it reaches all there are.
        reachable = reachable or [each["id"] for each in self.client.workspaces.list(limit=2)]
        if len(reachable) == 1:
            return reachable[0]
        raise BadRequest(
            "workspace_not_chosen",
            "the credential reaches more than one workspace" if reachable else "the credential reaches no workspace",
            remedy="tenantry workspace use WS, or --workspace",
        )


_OPTIONS: dict[str, tuple[Any, Any]] = {
    "workspace": (WorkspaceOption, None),
    "tenant": (TenantOption, None),
    "limit": (LimitOption, DEFAULT_LIMIT),
    "cursor": (CursorOption, None),
    "output": (OutputOption, None),
}
IN_WORKSPACE = ("workspace",)
IN_PLACE = ("tenant", "workspace")
IN_PAGES = ("limit", "cursor")


def command(
    app: typer.Typer, name: str, *, example: str, options: tuple[str, ...] = (), passes_arguments: bool = False
) -> Callable[[Callable[Concatenate[Invocation, P], None]], Callable[Concatenate[Invocation, P], None]]:
    """Register under `name`, with `--output` and the shared options named.

    `passes_arguments` ends options at the first argument, for commands that take a command.
    """

    def register(function: Callable[Concatenate[Invocation, P], None]) -> Callable[Concatenate[Invocation, P], None]:
        app.command(
            name,
            epilog=f"Example:\n\n\b\n{example}",
            context_settings={"allow_interspersed_args": not passes_arguments},
        )(_with_options(function, (*options, "output")))
        return function

    return register


def _with_options(
    function: Callable[Concatenate[Invocation, P], None], options: tuple[str, ...]
) -> Callable[..., None]:
    @wraps(function)
    def run(*, ctx: typer.Context, **values: Any) -> None:
        shared = ctx.find_root().obj
        taken = {name: values.pop(name) for name in options}
        shared.output = taken["output"] or shared.output
        invocation = Invocation(
            output=shared.output,
            named_workspace=taken.get("workspace") or shared.workspace,
            tenant=taken.get("tenant"),
            limit=taken.get("limit", DEFAULT_LIMIT),
            cursor=taken.get("cursor"),
        )
        try:
            function(invocation, **values)  # type: ignore[call-arg]
        finally:
            invocation.close()

    keyword = inspect.Parameter.KEYWORD_ONLY
    _, *own = inspect.signature(function).parameters.values()
    parameters = [
        inspect.Parameter("ctx", keyword, annotation=typer.Context),
        *(each.replace(kind=keyword) for each in own),
        *(
            inspect.Parameter(name, keyword, default=_OPTIONS[name][1], annotation=_OPTIONS[name][0])
            for name in options
        ),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
