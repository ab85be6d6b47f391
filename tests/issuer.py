"""A real, certified OpenID Provider for tests, and somebody who logs in at it by its own pages."""

import json
import re
import subprocess
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
from tests.ending import ended, killed_after, line_of

SCRIPT = Path(__file__).parents[1] / "scripts" / "oidc-provider.sh"
CLIENT_ID = "tenantry-test"
CLIENT_SECRET = "a secret: with / signs & spaces"
_FORM = re.compile(r'<form[^>]*action="([^"]+)"')
_PROMPT = re.compile(r'name="prompt" value="(\w+)"')


@dataclass
class Issuer:
    """One running provider; `stop` ends it."""

    redirects: list[str]
    secret: str | None = CLIENT_SECRET
    options: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            [str(SCRIPT), "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        client: dict[str, Any] = {"client_id": CLIENT_ID, "redirect_uris": self.redirects}
        if self.secret is None:
            client["token_endpoint_auth_method"] = "none"
        else:
            client["client_secret"] = self.secret
        self.url = str(self.tell("start", clients=[client], **self.options)["issuer"])

    def tell(self, what: str, **more: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(line_of(self._process))
        return answer

    def account(self, login: str, **claims: Any) -> None:
        """Say of somebody what the claims say, from now on."""
        self.tell("account", login=login, claims=claims)

    def rotate(self) -> None:
        """Sign with a new key, and forget the old one."""
        self.tell("rotate")

    def turn_clock(self, seconds: float) -> None:
        self.tell("clock", ahead=seconds)

    def stop(self) -> None:
        with killed_after(self._process):
            assert self._process.stdin is not None
            self._process.stdin.close()
            ended(self._process)


class Person:
    """Somebody with a browser of few talents: follows redirects, fills in the provider's two forms."""

    def __init__(self, login: str) -> None:
        self.login = login
        self.browser = httpx.Client(timeout=30)

    def close(self) -> None:
        self.browser.close()

    def go(self, url: str, *, until: str) -> httpx.Response:
        """Open an address and go on until one that begins with `until` would be opened, or a page without a form."""
        response = self.browser.get(url)
        for _ in range(20):
            if response.is_redirect:
                target = urljoin(str(response.url), response.headers["location"])
                if target.startswith(until):
                    return response
                response = self.browser.get(target)
            elif form := _FORM.search(response.text):
                prompt = _PROMPT.search(response.text)
                assert prompt is not None, response.text
                fields = {"prompt": prompt[1], "login": self.login, "password": "any"}
                response = self.browser.post(urljoin(str(response.url), unescape(form[1])), data=fields)
            else:
                return response
        raise AssertionError("no end of redirects")


def target_of(response: httpx.Response) -> str:
    return urljoin(str(response.url), response.headers["location"])


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
