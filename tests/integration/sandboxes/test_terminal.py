"""A terminal in a running sandbox: what a terminal is, and that it ends with its credential and its connection."""

import json
import socket as sockets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.sandboxes.ground import Ground, until
from tests.integration.sandboxes.living import Living, heard, start, stop
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection


@pytest.fixture(scope="module")
def living(ground: Ground) -> Iterator[Living]:
    made = start(ground, "terminal")
    yield made
    stop(made)


def tell(connection: ClientConnection, **control: Any) -> None:
    connection.send(json.dumps(control))


def test_it_is_a_terminal_of_the_size_that_was_asked_for_and_changes_it(living: Living) -> None:
    with living.socket("/terminal?rows=33&columns=111") as connection:
        connection.send(b"tty; stty size; echo $TERM-$((1+1))\n")
        found, _ = heard(connection, until=b"xterm-256color-2")
        assert b"/dev/pts/" in found or b"/dev/tty" in found or b"/dev/console" in found
        assert b"33 111" in found
        tell(connection, resize={"rows": 40, "columns": 120})
        connection.send(b"stty size; echo over-$((1+1))\n")
        found, _ = heard(connection, until=b"over-2")
        assert b"40 120" in found
        connection.send(b"exit 5\n")
        _, end = heard(connection)
        assert (end["exit_code"], end["ending"]) == (5, "exited")
        assert connection.close_code == 1000


def test_an_interrupt_of_the_terminal_reaches_what_runs_in_it(living: Living) -> None:
    with living.socket("/terminal") as connection:
        connection.send(b"trap 'echo got-it-$((1+1))' INT; echo up-$((1+1)); while :; do sleep 0.1; done\n")
        heard(connection, until=b"up-2")
        connection.send(b"\x03")
        heard(connection, until=b"got-it-2")


def test_a_signal_is_sent_to_the_command(living: Living) -> None:
    command = "command=sh&command=-c&command=trap 'echo hup; exit 9' HUP; echo ready; while :; do sleep 0.1; done"
    with living.socket(f"/terminal?tty=false&{command.replace(' ', '%20')}") as connection:
        heard(connection, until=b"ready")
        tell(connection, signal=1)
        found, end = heard(connection)
    assert b"\x01hup\n" in found
    assert end["exit_code"] == 9


def test_without_a_terminal_each_piece_says_of_which_stream_it_is(living: Living) -> None:
    with living.socket("/terminal?tty=false&command=sh&command=-c&command=cat%3B%20echo%20err%20%3E%262") as connection:
        connection.send(b"\x00\xff binary")
        tell(connection, close_stdin=True)
        found, end = heard(connection)
    assert found.replace(b"binar\x01y", b"binary") == b"\x01\x00\xff binary\x02err\n"
    assert end["exit_code"] == 0


def test_much_input_that_nobody_reads_holds_up_nothing_else(living: Living) -> None:
    """What is sent waits for the command, which answers meanwhile."""
    with living.socket("/terminal?tty=false&command=sh&command=-c&command=sleep%202%3B%20wc%20-c") as connection:
        for _ in range(32):
            connection.send(bytes(256 << 10))
        tell(connection, close_stdin=True)
        found, end = heard(connection)
    assert found == b"\x01%d\n" % (32 * (256 << 10))
    assert end["exit_code"] == 0


@pytest.mark.parametrize(
    "frame",
    [
        '"resize"',
        "{",
        '{"resize": {"rows": 0, "columns": 1}}',
        '{"signal": 65}',
        '{"kill": 1}',
        '{"signal": 1, "signal": 2}',
    ],
)
def test_a_control_that_is_none_ends_it(living: Living, frame: str) -> None:
    with living.socket("/terminal") as connection:
        connection.send(frame)
        _, told = heard(connection)
        assert told["refused"]["code"] == "frame_invalid"
        assert connection.close_code == 1008


def _runs(living: Living, name: str) -> bool:
    return bool(living.sh(f"pgrep -f '[{name[0]}]{name[1:]}' > /dev/null")["exit_code"] == 0)


def test_what_runs_in_it_ends_with_the_connection(living: Living) -> None:
    connection = living.socket("/terminal?command=sleep&command=302.5")
    until(lambda: _runs(living, "sleep 302.5"))
    connection.close()
    until(lambda: not _runs(living, "sleep 302.5"), seconds=5)


def test_what_runs_in_it_ends_also_when_its_peer_is_cut_off_and_it_reads_nothing(living: Living) -> None:
    connection = living.socket("/terminal?tty=false&command=sleep&command=303.5")
    until(lambda: _runs(living, "sleep 303.5"))
    connection.send(bytes(1 << 20))
    connection.send(bytes(1 << 20))  # nobody takes the first
    connection.socket.shutdown(sockets.SHUT_RDWR)
    until(lambda: not _runs(living, "sleep 303.5"), seconds=45)


def test_a_revoked_key_ends_it_within_a_second(living: Living) -> None:
    ground = living.ground
    place = f"/workspaces/{ground.workspace}/keys"
    made = ground.client.post(place, json={"name": "short", "roles": ["operator"]}).json()
    with living.socket("/terminal?command=sleep&command=304.5", key=made["secret"]) as connection:
        until(lambda: _runs(living, "sleep 304.5"))
        ground.client.delete(f"{place}/{made['id']}")
        began = time.monotonic()
        _, told = heard(connection)
        assert time.monotonic() - began < 1.5
        assert told["refused"]["code"] == "credential_refused"
        assert connection.close_code == 1008
    until(lambda: not _runs(living, "sleep 304.5"), seconds=5)


def test_it_ends_when_its_sandbox_is_stopped(ground: Ground) -> None:
    living = start(ground, "stopped-meanwhile")
    with living.socket("/terminal") as connection:
        connection.send(b"echo here-$((1+1))\n")
        heard(connection, until=b"here-2")
        assert living.client.post(f"{living.path}/stop").status_code == 200
        began = time.monotonic()
        heard(connection)
        assert time.monotonic() - began < 5


def _refused(living: Living, path: str, *, key: str | None = None, **options: Any) -> dict[str, Any]:
    with pytest.raises(InvalidStatus) as caught:
        living.socket(path, key=key, **options)
    told: dict[str, Any] = json.loads(bytes(caught.value.response.body))
    return told


def test_it_is_judged_and_recorded_before_it_opens(living: Living, make_ground: Any) -> None:
    ground = living.ground
    viewer = ground.tenant.key(ground.workspace, "viewer")
    assert _refused(living, "/terminal", key=viewer)["code"] == "permission_missing"
    with living.socket("/terminal?command=true&command=recorded") as connection:
        heard(connection)
    recorded = living.events("sandbox.exec")[0]
    assert (recorded["outcome"], recorded["details"]["arguments"]) == ("success", 1)
    assert recorded["withheld"] == ["details.program"], "what was written is not kept where only metadata are"
    policed = start(make_ground(), "policed-terminal")
    path = f"/workspaces/{policed.ground.workspace}/policies/command"
    document = {"blocked_commands": ["nc *"]}
    assert policed.client.put(path, params={"state": "enforced"}, json=document).status_code == 200
    assert _refused(policed, "/terminal?command=nc&command=-l")["code"] == "policy_denied"


def test_another_tenants_sandbox_and_one_that_never_was_read_the_same(living: Living, make_ground: Any) -> None:
    stranger = make_ground()
    shown = stranger.client.headers["authorization"].removeprefix("Bearer ")
    here = Living(stranger, living.id, "theirs", shown)
    never = Living(stranger, living.id[:-4] + "aaaa", "none", shown)
    first, second = (_refused(each, "/terminal") | {"trace_id": ""} for each in (here, never))
    assert first == second
    assert first["status"] == 404
    across = Living(living.ground, living.id, "theirs", shown)
    assert _refused(across, "/terminal")["status"] == 404
