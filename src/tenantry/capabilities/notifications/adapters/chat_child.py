"""Sends by apprise, in a process of its own: one JSON line in, one out, until the input ends.

Apprise and what it imports take 45 MiB, follow what the environment says of proxies and passwords, and cannot be
interrupted in a thread. Here they can be killed, see an empty environment, and connect to nothing that is not public:
an audit hook (PEP 578) examines the address of each connection as it is made, redirects and proxies included.
"""

import ipaddress
import json
import logging
import os
import sys
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from tenantry.kit.public_addresses import is_public

# Plugins by scheme, imported one by one: apprise's own look-up imports all 260, some of which run programs.
PLUGINS: Final = {
    "discord": ("discord", "NotifyDiscord"),
    "gchat": ("google_chat", "NotifyGoogleChat"),
    "gotify": ("gotify", "NotifyGotify"),
    "gotifys": ("gotify", "NotifyGotify"),
    "mmost": ("mattermost", "NotifyMattermost"),
    "mmosts": ("mattermost", "NotifyMattermost"),
    "ntfy": ("ntfy", "NotifyNtfy"),
    "ntfys": ("ntfy", "NotifyNtfy"),
    "opsgenie": ("opsgenie", "NotifyOpsgenie"),
    "pagerduty": ("pagerduty", "NotifyPagerDuty"),
    "pover": ("pushover", "NotifyPushover"),
    "slack": ("slack", "NotifySlack"),
    "tgram": ("telegram", "NotifyTelegram"),
}
_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 10.0


class _Gate:
    """Refuses connections to addresses that are not public."""

    def __init__(self) -> None:
        self.allow_private = False
        self.refused = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "socket.connect" or self.allow_private:
            return
        try:
            public = is_public(ipaddress.ip_address(arguments[1][0]))
        except (ValueError, TypeError, IndexError):  # of another family: a file's name
            public = False
        if not public:
            self.refused = True
            raise PermissionError("not a public address")


def _send(asked: dict[str, Any], gate: _Gate) -> str | None:
    """Send; gives None, or the code of what went wrong."""
    from apprise import AppriseAsset
    from apprise.exception import AppriseException

    gate.allow_private, gate.refused = asked["allow_private"], False
    module, name = PLUGINS[urlsplit(asked["url"]).scheme]
    plugin = getattr(import_module(f"apprise.plugins.{module}"), name)
    # No pictures from elsewhere, nothing kept on disk, and no say of the address in what it is not asked for.
    asset = AppriseAsset(
        app_id="Tenantry",
        app_desc="Tenantry",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        storage_mode="memory",
        http_redirects=False,
        interpret_escapes=False,
    )
    parsed = plugin.parse_url(asked["url"])
    if not parsed:
        return "address_invalid"
    try:
        service = plugin(**parsed, asset=asset)
    except (AppriseException, TypeError):
        return "address_invalid"
    service.redirects = False
    service.verify_certificate = True
    service.socket_connect_timeout, service.socket_read_timeout = _CONNECT_SECONDS, _READ_SECONDS
    if service.notify(title=asked["title"], body=asked["body"], body_format="text"):
        return None
    return "address_private" if gate.refused else "service_refused"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - nothing that a plugin prints belongs to the answers
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    logging.disable()
    gate = _Gate()
    sys.addaudithook(gate)
    for line in sys.stdin:
        try:
            code = _send(json.loads(line), gate)
        except Exception:  # noqa: BLE001 - whatever a plugin raises, it was not sent; its words may hold the address
            code = "service_failed"
        answers.write(json.dumps({"code": code}) + "\n")


if __name__ == "__main__":
    main()
