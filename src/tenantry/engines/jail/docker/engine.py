"""The engine's HTTP API over its Unix socket: only what this backend asks of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import httpx

from tenantry.engines.jail.errors import JailUnavailable

OLDEST_API: Final = (1, 41)
_NEWEST_API: Final = (1, 44)  # newer engines still speak it, and some no older one
_TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)
_IMPORT_SECONDS: Final = 900.0
_REMOVALS, _REMOVAL_SECONDS = 6, 0.1
_CONNECTED: Final = (101, 200)


class EngineRefusedError(Exception):
    """The engine answered with an error; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """Made by `connect`, ended by `close`. Every method raises JailUnavailable `docker_unreachable` when the engine
    does not answer, and EngineRefusedError when it says no.
    """

    def __init__(self, socket: Path, client: httpx.AsyncClient) -> None:
        self._socket = socket
        self._client = client
        self._prefix = ""
        self.version = ""
        self.kind = ""

    @classmethod
    async def connect(cls, socket: Path) -> Self:
        """Ask who is there; raises JailUnavailable also when it is too old."""
        transport = httpx.AsyncHTTPTransport(uds=str(socket), retries=1)
        engine = cls(socket, httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=_TIMEOUT))
        try:
            await engine._greet()
        except BaseException:
            await engine.close()
            raise
        return engine

    async def _greet(self) -> None:
        answer = await self._ask("GET", "/version")
        spoken = tuple(int(part) for part in str(answer.get("ApiVersion", "0")).split("."))
        self.version = str(answer.get("Version", ""))
        names = {str(part.get("Name", "")) for part in answer.get("Components") or ()}
        self.kind = "podman" if any("Podman" in name for name in names) else "docker"
        if spoken < OLDEST_API:
            raise JailUnavailable(
                "docker_too_old",
                f"the engine at {self._socket} speaks API {'.'.join(map(str, spoken))}, 1.41 is the oldest to do",
                remedy="upgrade it: Docker 20.10 or newer, Podman 4.0 or newer",
            )
        self._prefix = f"/v{'.'.join(map(str, min(spoken, _NEWEST_API)))}"

    async def info(self) -> dict[str, Any]:
        return await self._ask("GET", "/info")

    async def create(self, config: Mapping[str, object]) -> str:
        """Make a container; returns its id."""
        return str((await self._ask("POST", "/containers/create", json=config))["Id"])

    async def start(self, container: str) -> None:
        await self._ask("POST", f"/containers/{container}/start")

    async def state(self, container: str) -> dict[str, Any]:
        answer: dict[str, Any] = (await self._ask("GET", f"/containers/{container}/json"))["State"]
        return answer

    async def remove(self, container: str) -> None:
        """Kill and remove it; one that is gone, or going by itself, is no error.

        One that dies meanwhile is in nobody's book for a moment: engines answer 500, so they are asked again.
        """
        for attempt in range(_REMOVALS):
            try:
                await self._ask_any("DELETE", f"/containers/{container}", params={"force": "true", "v": "true"})
            except EngineRefusedError as error:
                if error.status in (404, 409):
                    return
                if not httpx.codes.is_server_error(error.status) or attempt + 1 == _REMOVALS:
                    raise
                await asyncio.sleep(_REMOVAL_SECONDS * (attempt + 1))
            else:
                return

    async def labelled(self, label: str) -> list[dict[str, Any]]:
        """List containers with that label, running or not."""
        wanted = {"all": "true", "filters": json.dumps({"label": [label]})}
        found = await self._send("GET", "/containers/json", params=wanted)
        return list(found.json())

    async def image(self, name: str) -> dict[str, Any] | None:
        """Look at an image: its Id and Config; None when there is none of that name."""
        try:
            return await self._ask("GET", f"/images/{name}/json")
        except EngineRefusedError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return None

    async def images(self, label: str) -> list[dict[str, Any]]:
        found = await self._send("GET", "/images/json", params={"filters": json.dumps({"label": [label]})})
        return list(found.json())

    async def forget_image(self, image: str) -> None:
        """Remove an image that nothing runs from; otherwise it stays."""
        try:
            await self._ask_any("DELETE", f"/images/{image}")
        except EngineRefusedError as error:
            if error.status not in (404, 409):
                raise

    async def import_root(self, archive: AsyncIterator[bytes], *, name: str, changes: list[str]) -> None:
        """Make an image of one layer from a tar of its root directory."""
        wanted = {"fromSrc": "-", "repo": name, "changes": changes}
        said = await self._send(
            "POST",
            "/images/create",
            params=wanted,
            content=archive,
            headers={"Content-Type": "application/x-tar"},
            timeout=httpx.Timeout(_IMPORT_SECONDS, connect=5.0),
        )
        for line in said.text.splitlines():
            if line.strip() and "error" in (told := json.loads(line)):
                raise EngineRefusedError(httpx.codes.INTERNAL_SERVER_ERROR, str(told["error"]))

    async def hold(self, container: str) -> asyncio.StreamWriter:
        """Hold the input of a container that is not started yet; whoever closes it, or dies, ends that input."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            path = f"{self._prefix}/containers/{container}/attach?stream=1&stdin=1"
            words = ("Host: engine", "Connection: Upgrade", "Upgrade: tcp", "Content-Length: 0", "", "")
            writer.write("\r\n".join((f"POST {path} HTTP/1.1", *words)).encode())
            async with asyncio.timeout(30):
                head = await reader.readuntil(b"\r\n\r\n")
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            writer.close()
            raise self._unreachable(error) from error
        except BaseException:
            writer.close()
            raise
        status = int(head.split(b" ", 2)[1])
        if status not in _CONNECTED:
            said = (await reader.read(1 << 10)).decode(errors="replace").strip()
            writer.close()
            raise EngineRefusedError(status, f"it does not attach to {container}: {said[:500]}")
        return writer

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = await self._ask_any(method, path, **options)
        return answer if isinstance(answer, dict) else {}

    async def _ask_any(self, method: str, path: str, **options: Any) -> object:
        said = await self._send(method, path, **options)
        return said.json() if said.content else None

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            said = await self._client.request(method, f"{self._prefix}{path}", **options)
        except (httpx.TransportError, OSError) as error:
            raise self._unreachable(error) from error
        if said.is_error:
            raise EngineRefusedError(said.status_code, _message(said))
        return said

    def _unreachable(self, error: Exception) -> JailUnavailable:
        return JailUnavailable(
            "docker_unreachable",
            f"no container engine answers at {self._socket}: {str(error) or type(error).__name__}",
            remedy="start it (systemctl start docker), or set sandboxes.docker_socket to where it listens",
        )


def _message(said: httpx.Response) -> str:
    try:
        return str(said.json()["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {said.status_code}"
