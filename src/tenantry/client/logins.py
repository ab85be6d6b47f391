"""Logins by tokens: kept in `credentials.json`, renewed by themselves.

A refresh token counts once, and one that comes twice ends the login. So a process renews under a lock of the file's
own, and takes what another has stored meanwhile instead of using an old one again.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tenantry.client.errors import BadAnswer, CredentialsError
from tenantry.client.private import read_private_json, write_private_json

_AGAIN = "run `tenantry login` again"
_EARLY_SECONDS = 30.0
_RENEW_SECONDS = 20.0
_UNAUTHENTICATED = 401


@dataclass(frozen=True, slots=True)
class Tokens:
    """`expires_at` is a moment of this machine's clock, in seconds since 1970."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float

    @classmethod
    def of_answer(cls, answer: Mapping[str, Any]) -> "Tokens":
        """Read what the token routes answer; raises BadAnswer."""
        try:
            seconds = float(answer["expires_in"])
            return cls(str(answer["access_token"]), str(answer["refresh_token"]), time.time() + seconds)
        except (KeyError, TypeError, ValueError):
            raise BadAnswer("tokens_expected", "the server answered with no tokens") from None

    @classmethod
    def of_file(cls, stored: object) -> "Tokens | None":
        if not isinstance(stored, dict):
            return None
        try:
            at = datetime.fromisoformat(stored["expires_at"]).timestamp()
            return cls(str(stored["access_token"]), str(stored["refresh_token"]), at)
        except (KeyError, TypeError, ValueError):
            return None

    def as_json(self) -> dict[str, str]:
        at = datetime.fromtimestamp(self.expires_at, UTC).isoformat(timespec="seconds")
        return {"access_token": self.access_token, "refresh_token": self.refresh_token, "expires_at": at}


def store(path: Path, *, url: str, tokens: Tokens) -> None:
    write_private_json(path, {"url": url, "login": tokens.as_json()})


class LoginAuth(httpx.Auth):
    """Sends the access token, and renews it shortly before its end, or once when the server refuses it."""

    def __init__(self, tokens: Tokens, *, url: str, path: Path, options: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._url = url
        self._path = path
        self._options = options

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._is_over():
            self._renew(self._tokens)
        sent = self._sign(request)
        response = yield request
        if response.status_code == _UNAUTHENTICATED and _repeatable(request):
            self._renew(sent)
            self._sign(request)
            yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if self._is_over():
            await asyncio.to_thread(self._renew, self._tokens)
        sent = self._sign(request)
        response = yield request
        if response.status_code == _UNAUTHENTICATED and _repeatable(request):
            await asyncio.to_thread(self._renew, sent)
            self._sign(request)
            yield request

    def _is_over(self) -> bool:
        return time.time() > self._tokens.expires_at - _EARLY_SECONDS

    def _sign(self, request: httpx.Request) -> Tokens:
        tokens = self._tokens
        request.headers["Authorization"] = f"Bearer {tokens.access_token}"
        return tokens

    def _renew(self, old: Tokens) -> None:
        """Replace tokens that are over or refused; raises CredentialsError when the login has ended."""
        with _locked(self._path):
            stored = Tokens.of_file((read_private_json(self._path) or {}).get("login"))
            if stored is not None and stored.refresh_token != old.refresh_token:
                self._tokens = stored
                return
            if self._tokens.refresh_token != old.refresh_token:
                return
            with httpx.Client(**self._options) as client:
                answer = client.post(
                    "/api/v1/auth/refresh", json={"refresh_token": old.refresh_token}, timeout=_RENEW_SECONDS
                )
            if answer.status_code == _UNAUTHENTICATED:
                raise CredentialsError("login_ended", "this login has ended", remedy=_AGAIN)
            if not answer.is_success:
                raise CredentialsError(
                    "login_not_renewed", f"the login could not be renewed ({answer.status_code})", remedy=_AGAIN
                )
            self._tokens = Tokens.of_answer(answer.json())
            store(self._path, url=self._url, tokens=self._tokens)


def _repeatable(request: httpx.Request) -> bool:
    """Whether a body can be sent again; of a streamed one the beginning is gone."""
    return isinstance(request.stream, httpx.ByteStream)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock: of the processes of this user one renews at a time."""
    lock = path.with_name(f".{path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
