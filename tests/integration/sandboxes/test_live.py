"""The life of a sandbox: made, started, stopped, extended, changed, deleted, and what each of it leaves."""

import time

import pytest
from tests.integration.sandboxes.conftest import MakeGround
from tests.integration.sandboxes.ground import Ground, until
from tests.integration.sandboxes.live_ground import LiveGround


@pytest.fixture(scope="module")
def live(make_ground: MakeGround) -> LiveGround:
    return LiveGround(make_ground())


@pytest.fixture(scope="module")
def kept(make_ground: MakeGround) -> LiveGround:
    return LiveGround(make_ground(persistence_mode="full"))


def test_a_sandbox_runs_until_it_is_stopped_and_starts_again(live: LiveGround) -> None:
    made = live.run("first", labels={"team": "core"})
    assert made["job"]
    assert made["expires_at"]
    assert made["files_kept"] is False
    assert made["kept"] is None
    begun = time.monotonic()
    stopped = live.stopped(made)
    assert time.monotonic() - begun < 3
    assert (stopped["status"], stopped["reason"], stopped["expires_at"]) == ("stopped", "stopped", None)
    again = live.done(made, "start", wait=30)
    assert again["status"] == "running"
    assert again["job"] != made["job"]
    assert live.done(made, "start")["job"] == again["job"], "starting one that runs changes nothing"
    live.stopped(made)
    assert live.stopped(made)["status"] == "stopped", "stopping one that is stopped changes nothing"
