"""Without any one check of the gateway a case of a small table goes red."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
#: Checks that may be left out, and why nothing passes that did not.
HARMLESS = {
    # Held twice: the other one is seen when it is missing.
    "dns._read_name: len(label) != length, of 2": "a label that is cut is followed by no end of its name",
    "requests.parse_request: not head.endswith(_END), of 2": "a head without its end has none to count",
    "requests.parse_request: head.count(_END) != 1, of 2": "an empty line between is no field",
    "bodies._take_size: len(data) >= _LONGEST_LINE, of 2": "so many digits are no size either",
    "web.split_place: default is None": "port 0 is none",
    "gateway._route: connection.aim('tcp', host, port)": "every way through aims anew",
    "addresses.may_dial: address.is_multicast, of 3": "no such address is loopback or private",
    # Not on the way of a connection: whoever calls it otherwise is told of a fault of ours.
    "connection.connect: self.host is None": "nobody connects before a place is expected",
}

#: On the way of injected values alone, where no case of the table comes: tests/integration/egress/test_injection.
INJECTING = frozenset(
    {
        "connection._draw: self._count_received(len(data))",
        "connection._draw: self.upstream is None",
        "connection._pass: self.upstream is None #2",
        "connection.begin_tls: self.host is None #2",
        "hello._read_protocols: not all(found), of 2",
        "hello._read_protocols: outer or not all(found)",
        "hello._read_protocols: outer, of 2",
        "web._hold_against: request.scheme and port == _HTTPS, of 3",
    }
)


@pytest.mark.timeout(300)  # seconds of processor time are some ten; a check that is missing may be waited for
def test_no_check_of_the_gateway_can_be_left_out_unnoticed() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'src'}"}
    words = [sys.executable, str(Path(__file__).with_name("gateway_steps.py"))]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    verdicts: dict[str, str] = json.loads(done.stdout)
    assert verdicts.pop("") == ""
    assert len(verdicts) > 150
    assert verdicts.keys() >= HARMLESS.keys()
    assert {name for name, noticed in verdicts.items() if not noticed} <= HARMLESS.keys() | INJECTING, verdicts
