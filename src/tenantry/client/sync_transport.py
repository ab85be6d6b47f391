import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

import httpx

from tenantry.client.calls import Call
from tenantry.client.channels import Channel, address_of, options_of, refused_by, unreached
from tenantry.client.credentials import Credentials
from tenantry.client.following import Follower
from tenantry.client.logs import LogEvent
from tenantry.client.pages import Pages, Plan
from tenantry.client.receipts import Receipts
from tenantry.client.retries import RetryPolicy, Trial
from tenantry.client.saving import Saving
from tenantry.client.wire import client_options, refusal, request_options, result_of
from tenantry.client.work_events import WorkEvents, cut_off, is_events

R = TypeVar("R")


class SyncTransport:
    """Sends calls and waits for their answers. One per thread: httpx allows more, an iterated stream does not."""

    def __init__(
        self, credentials: Credentials, *, policy: RetryPolicy, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self.url = credentials.url
        self._receipts = Receipts(credentials.receipts)
        self._policy = policy
        self._sleep = sleep
        options = client_options(credentials)
        self._http = httpx.Client(**options)
        self._auth: httpx.Auth = options.get("auth") or httpx.Auth()
        self._verify = options["verify"]

    def send(self, call: Call[R]) -> R:
        return result_of(call, self._answered(call, self._trial(call), stream=False))

    def pages(self, plan: Plan[R]) -> Pages[R]:
        return Pages(plan, self.send)

    def follow(self, call: Call[Any], *, after_seq: int | None) -> Generator[LogEvent]:
        follower = Follower(call=call, policy=self._policy, url=self.url, after_seq=after_seq)
        while not follower.is_over():
            delay: float | None
            try:
                with closing(self._opened(call, follower.headers())) as response:
                    if follower.opened(response):
                        for portion in response.iter_bytes():
                            yield from follower.feed(portion)
                            if follower.is_over():
                                return
                        delay = follower.delay_after_break(None)
                    elif follower.is_over():
                        return
                    else:
                        response.read()
                        delay = follower.delay_after_refusal(response)
                        if delay is None:
                            raise refusal(response)
            except httpx.RequestError as error:
                delay = follower.delay_after_break(error)
            self._sleep(delay)

    def save(self, saving: Saving) -> int:
        """Download to a file, from its start again when the connection breaks; returns its bytes."""
        trial = self._trial(saving.call)
        while True:
            try:
                with closing(self._answered(saving.call, trial, stream=True)) as response:
                    if not response.is_success:
                        response.read()
                        raise refusal(response)
                    with saving.opened() as sink:
                        for portion in response.iter_bytes():
                            sink.write(portion)
                        return sink.finish()
            except httpx.RequestError as error:
                delay = trial.delay_after_error(error)
            self._sleep(delay)

    def connect(self, call: Call[Any]) -> Channel:
        """Open a WebSocket; raises ApiError where it is refused, ConnectionFailed."""
        from websockets.exceptions import InvalidHandshake, InvalidStatus
        from websockets.sync.client import connect

        request = self._http.build_request(**request_options(call))
        flow = self._auth.sync_auth_flow(request)
        signed = next(flow)
        while True:
            try:
                connection = connect(address_of(signed), legacy=True, **options_of(signed, self._verify))
                return Channel(connection, url=self.url)
            except InvalidStatus as error:
                try:
                    signed = flow.send(httpx.Response(error.response.status_code, request=signed))
                except StopIteration:
                    raise refused_by(error.response) from None
            except (InvalidHandshake, OSError, TimeoutError) as error:
                raise unreached(self.url) from error

    def close(self) -> None:
        self._http.close()

    def _trial(self, call: Call[Any]) -> Trial:
        return Trial(call=call, policy=self._policy, url=self.url)

    def _answered(self, call: Call[Any], trial: Trial, *, stream: bool) -> httpx.Response:
        while True:
            try:
                response = self._sent(call, stream=stream)
            except httpx.RequestError as error:
                delay = trial.delay_after_error(error)
            else:
                again = trial.delay_after(response)
                if again is None:
                    self._receipts.take(response)
                    return response
                response.close()
                delay = again
            self._sleep(delay)

    def _sent(self, call: Call[Any], *, stream: bool) -> httpx.Response:
        response = self._http.send(self._request(call), stream=stream or call.progress is not None)
        if call.progress is None:
            return response
        with closing(response):
            if not is_events(response):
                response.read()
                return response
            events = WorkEvents(call.progress)
            for portion in response.iter_bytes():
                if (answer := events.feed(portion)) is not None:
                    return answer
        raise cut_off()

    def _opened(self, call: Call[Any], headers: dict[str, str]) -> httpx.Response:
        return self._http.send(self._http.build_request(**request_options(call, extra=headers)), stream=True)

    def _request(self, call: Call[Any]) -> httpx.Request:
        content = call.upload.chunks() if call.upload is not None else call.document
        return self._http.build_request(content=content, **request_options(call))
