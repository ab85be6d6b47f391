import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import httpx

from tenantry.client.calls import Call, Upload
from tenantry.client.channels import AsyncChannel, address_of, options_of, refused_by, unreached
from tenantry.client.credentials import Credentials
from tenantry.client.following import Follower
from tenantry.client.logs import LogEvent
from tenantry.client.pages import AsyncPages, Plan
from tenantry.client.receipts import Receipts
from tenantry.client.retries import RetryPolicy, Trial
from tenantry.client.saving import Saving
from tenantry.client.wire import client_options, refusal, request_options, result_of
from tenantry.client.work_events import WorkEvents, cut_off, is_events

R = TypeVar("R")


class AsyncTransport:
    """What SyncTransport does, without blocking the loop; files are read and written in threads."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        policy: RetryPolicy,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.url = credentials.url
        self._receipts = Receipts(credentials.receipts)
        self._policy = policy
        self._sleep = sleep
        options = client_options(credentials)
        self._http = httpx.AsyncClient(**options)
        self._auth: httpx.Auth = options.get("auth") or httpx.Auth()
        self._verify = options["verify"]

    async def send(self, call: Call[R]) -> R:
        return result_of(call, await self._answered(call, self._trial(call), stream=False))

    def pages(self, plan: Plan[R]) -> AsyncPages[R]:
        return AsyncPages(plan, self.send)

    async def follow(self, call: Call[Any], *, after_seq: int | None) -> AsyncGenerator[LogEvent]:
        follower = Follower(call=call, policy=self._policy, url=self.url, after_seq=after_seq)
        while not follower.is_over():
            delay: float | None
            try:
                async with aclosing(await self._opened(call, follower.headers())) as response:
                    if follower.opened(response):
                        async for portion in response.aiter_bytes():
                            for event in follower.feed(portion):
                                yield event
                            if follower.is_over():
                                return
                        delay = follower.delay_after_break(None)
                    elif follower.is_over():
                        return
                    else:
                        await response.aread()
                        delay = follower.delay_after_refusal(response)
                        if delay is None:
                            raise refusal(response)
            except httpx.RequestError as error:
                delay = follower.delay_after_break(error)
            await self._sleep(delay)

    async def save(self, saving: Saving) -> int:
        """Download to a file, from its start again when the connection breaks; returns its bytes."""
        trial = self._trial(saving.call)
        while True:
            try:
                async with aclosing(await self._answered(saving.call, trial, stream=True)) as response:
                    if not response.is_success:
                        await response.aread()
                        raise refusal(response)
                    with saving.opened() as sink:
                        async for portion in response.aiter_bytes():
                            await asyncio.to_thread(sink.write, portion)
                        return await asyncio.to_thread(sink.finish)
            except httpx.RequestError as error:
                delay = trial.delay_after_error(error)
            await self._sleep(delay)

    async def connect(self, call: Call[Any]) -> AsyncChannel:
        """Open a WebSocket; raises ApiError where it is refused, ConnectionFailed."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidHandshake, InvalidStatus

        request = self._http.build_request(**request_options(call))
        flow = self._auth.async_auth_flow(request)
        signed = await anext(flow)
        async with aclosing(flow):
            while True:
                try:
                    connection = await connect(address_of(signed), **options_of(signed, self._verify))
                    return AsyncChannel(connection, url=self.url)
                except InvalidStatus as error:
                    try:
                        signed = await flow.asend(httpx.Response(error.response.status_code, request=signed))
                    except StopAsyncIteration:
                        raise refused_by(error.response) from None
                except (InvalidHandshake, OSError, TimeoutError) as error:
                    raise unreached(self.url) from error

    async def aclose(self) -> None:
        await self._http.aclose()

    def _trial(self, call: Call[Any]) -> Trial:
        return Trial(call=call, policy=self._policy, url=self.url)

    async def _answered(self, call: Call[Any], trial: Trial, *, stream: bool) -> httpx.Response:
        while True:
            try:
                response = await self._sent(call, stream=stream)
            except httpx.RequestError as error:
                delay = trial.delay_after_error(error)
            else:
                again = trial.delay_after(response)
                if again is None:
                    self._receipts.take(response)
                    return response
                await response.aclose()
                delay = again
            await self._sleep(delay)

    async def _sent(self, call: Call[Any], *, stream: bool) -> httpx.Response:
        response = await self._http.send(self._request(call), stream=stream or call.progress is not None)
        if call.progress is None:
            return response
        async with aclosing(response):
            if not is_events(response):
                await response.aread()
                return response
            events = WorkEvents(call.progress)
            async for portion in response.aiter_bytes():
                if (answer := events.feed(portion)) is not None:
                    return answer
        raise cut_off()

    async def _opened(self, call: Call[Any], headers: dict[str, str]) -> httpx.Response:
        request = self._http.build_request(**request_options(call, extra=headers))
        return await self._http.send(request, stream=True)

    def _request(self, call: Call[Any]) -> httpx.Request:
        content = _portions(call.upload) if call.upload is not None else call.document
        return self._http.build_request(content=content, **request_options(call))


async def _portions(upload: Upload) -> AsyncIterator[bytes]:
    chunks = upload.chunks()
    while (portion := await asyncio.to_thread(next, chunks, None)) is not None:
        yield portion
