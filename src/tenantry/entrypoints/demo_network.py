"""Scene of the demo about networks: nothing without a policy, the gateway for what is allowed, a line for the rest."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Final

from tenantry.client.types import Connection, Job, JobLimits
from tenantry.entrypoints.demo_cast import Cast, Party, refusal_of
from tenantry.entrypoints.demo_stage import Stage

OUTSIDE: Final = "127.77.0.1"
"""Plays the outside: an address of this machine at which nothing else answers."""
_METADATA: Final = "169.254.169.254"
_WORDS: Final = b"greetings from outside\n"
_SMALL: Final[JobLimits] = {"cpus": 0.5, "memory_mib": 64, "timeout_seconds": 20}
# By the proxy, since the outside of this scene has an address and no name.
_GET: Final = r"""
exec 3<>/dev/tcp/127.0.0.1/3128
printf 'GET http://%s:%s/ HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n' "$1" "$2" "$1" "$2" >&3
cat <&3
"""


class _Greeter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(_WORDS)))
        self.end_headers()
        self.wfile.write(_WORDS)

    def log_message(self, *_: object) -> None:
        """Keep quiet: the demo tells what is to be told."""


@contextmanager
def _outside() -> Iterator[int]:
    with ThreadingHTTPServer((OUTSIDE, 0), _Greeter) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def connections(stage: Stage, cast: Cast) -> None:
    """Ask for a connection without a policy, with one, and for what no policy opens."""
    acme, globex = cast.acme, cast.globex
    stage.scene("A way out by name: none without a policy, then the gateway, and never to the machine's own")
    with _outside() as port:
        wanted = [Connection(host=OUTSIDE, port=port)]
        refused = refusal_of(lambda: _connecting(acme, OUTSIDE, port, wanted))
        stage.expect_refusal("a job that wants out, without a policy", refused, status=403, code="policy_denied")
        policy = f"allowed_hosts: ['{OUTSIDE}', '{_METADATA}']\nallowed_ports: [{port}]"
        made = acme.owner.policies.put("network", policy, state="enforced", tenant=acme.slug)
        try:
            job = _connecting(acme, OUTSIDE, port, wanted)
            said = acme.output(job)
            stage.expect("with one it reads what is outside", held=_WORDS.decode().strip() in said, seen=said[-200:])
            usage = job["usage"]
            seen = f"{usage.get('sent_bytes')} sent, {usage.get('received_bytes')} received"
            stage.expect("every byte is counted", held=usage.get("received_bytes", 0) > len(_WORDS), seen=seen)
            job = _connecting(acme, OUTSIDE, port, [])
            said = acme.output(job)
            stage.expect("what it did not ask for is not there", held=_WORDS.decode() not in said, seen=said[-80:])
            job = _connecting(acme, _METADATA, port, [Connection(host=_METADATA, port=port)])
            said = acme.output(job)
            stage.expect("the machine's metadata stays out of reach", held="private_address" in said, seen=said[-160:])
            refused = refusal_of(lambda: _connecting(globex, OUTSIDE, port, wanted))
            stage.expect_refusal("globex, which has no policy", refused, status=403, code="policy_denied")
        finally:
            acme.owner.policies.promote("network", made["version"], "retired", tenant=acme.slug)


def _connecting(party: Party, host: str, port: int, network: list[Connection]) -> Job:
    command = ["bash", "-c", _GET, "get", host, str(port)]
    return party.owner.jobs.create(
        party.workspace, command=command, limits=_SMALL, network=network or None, wait_seconds=30
    )
