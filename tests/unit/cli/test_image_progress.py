"""`image pull` shows how far it is: drawn on a terminal, in lines elsewhere, not at all beside JSON."""

import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response
from tests.unit.cli.test_terminal import on_a_terminal

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Api, Run, Spawn

REFERENCE = "ghcr.io/a/b:1"
PULL = "/workspaces/ws_1/images/pull"
IMAGE = {"id": "img_1", "name": REFERENCE}
STATES: list[dict[str, Any]] = [
    {"phase": phase, "layers_done": done, "layers_unpacked": unpacked, "layers_total": 2, "bytes_total": 3000, **size}
    for phase, done, unpacked, size in (
        ("asking", 0, 0, {"layers_total": 0, "bytes_done": 0, "bytes_total": 0}),
        ("fetching", 0, 0, {"bytes_done": 1000}),
        ("fetching", 0, 0, {"bytes_done": 2000}),
        ("fetching", 2, 0, {"bytes_done": 3000}),
        ("unpacking", 2, 1, {"bytes_done": 3000}),
        ("storing", 2, 2, {"bytes_done": 3000}),
    )
]


@pytest.fixture
def registry(api: "Api") -> "Api":
    events = [*(("progress", state) for state in STATES), ("done", IMAGE)]
    told(api, *events)
    return api


def told(api: "Api", *events: tuple[str, dict[str, Any]]) -> None:
    text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    api.responds("POST", PULL, lambda: Response(text, media_type="text/event-stream"))


def test_where_nobody_looks_there_is_a_line_for_each_step(registry: "Api", tenantry: "Run") -> None:
    result = tenantry("image", "pull", REFERENCE)
    assert result.exit_code == 0
    assert "img_1" in result.stdout
    assert result.stderr.splitlines() == [
        "asking",
        "fetching: 0 of 2 layers",
        "fetching: 2 of 2 layers",
        "unpacking: 1 of 2 layers",
        "storing",
    ]
    assert "text/event-stream" in registry.to("POST", PULL).headers["accept"]


def test_beside_json_nothing_is_shown_and_nothing_is_asked_for(api: "Api", tenantry: "Run") -> None:
    api.on("POST", PULL, IMAGE, 201)
    result = tenantry("image", "pull", REFERENCE, "--output", "json")
    assert (json.loads(result.stdout), result.stderr) == (IMAGE, "")
    assert "text/event-stream" not in api.to("POST", PULL).headers["accept"]


def test_a_refusal_at_its_end_is_an_error_of_the_command(api: "Api", tenantry: "Run") -> None:
    told(api, ("progress", STATES[0]), ("error", {"status": 403, "code": "policy_denied", "detail": "not this one"}))
    refused = tenantry("image", "pull", REFERENCE)
    assert refused.exit_code != 0
    assert "policy_denied" in refused.stderr
    assert refused.stdout == ""


def test_a_terminal_shows_a_bar_and_nothing_that_steers_it(registry: "Api", spawn: "Spawn") -> None:
    assert registry.url
    shown = on_a_terminal(spawn, "image", "pull", f"{REFERENCE}\x1b]0;title\x07", stream="stderr")
    assert "storing" in shown
    assert "3.0/3.0 kB" in shown
    assert "\x1b]0;title" not in shown
