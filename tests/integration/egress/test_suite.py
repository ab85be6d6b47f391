"""The cases of the escape suite with a network hold, and see a gateway that lacks what it should have."""

from collections.abc import Callable
from typing import Any

import pytest

from tenantry.engines.egress import Decision, Gateway, addresses, gate, passages, web
from tenantry.engines.jail.selftest import SelftestResult
from tenantry.entrypoints.egress_suite import stage
from tenantry.entrypoints.egress_suite.cases import CASES


async def found(ground: Any) -> list[SelftestResult]:
    return await stage.try_egress(ground.jail, ground.host)


async def test_every_case_is_tried_and_holds(ground: Any) -> None:
    results = await found(ground)
    assert [result.code for result in results] == [case.code for case in CASES]
    assert len({result.code for result in results}) == len(results) > 150
    assert [(result.code, result.detail) for result in results if not result.ok] == []
    assert [result.code for result in results if result.skipped] == []


async def test_without_an_outside_of_the_web_those_cases_are_skipped(
    ground: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = stage._Outside._listen

    async def refusing(self: Any, stack: Any, port: int) -> None:
        if port == 443:
            raise PermissionError
        await listen(self, stack, port)

    monkeypatch.setattr(stage._Outside, "_listen", refusing)
    results = await found(ground)
    assert all(result.ok for result in results)
    assert {result.case for result in results if result.skipped} >= {"request_first", "tunnel_tls_for_another"}


def _anything(*_: object, **__: object) -> Any:
    return True


BROKEN: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], set[str]]] = {
    "rules": (
        lambda patch: patch.setattr(
            stage._Run, "_decide", lambda self, *_: Decision(allowed=True, private=self._private)
        ),
        {"name_not_listed", "tunnel_denied", "port_of_another_rule", "name_that_carries_data", "name_above"},
    ),
    "addresses": (
        lambda patch: patch.setattr(addresses, "may_dial", _anything),
        {"leading_to_loopback", "leading_to_metadata", "leading_to_loopback_6", "leading_to_mapped", "rebound"},
    ),
    "hellos": (
        lambda patch: patch.setattr(passages, "_judge", _anything),
        {"hello_for_another", "hello_for_none", "hello_that_hides", "tunnel_tls_for_another"},
    ),
    "hosts": (
        lambda patch: patch.setattr(web, "_hold_against", _anything),
        {"request_another_host", "request_another_address", "request_later", "tunnel_http_for_another"},
    ),
    "narrowing": (
        lambda patch: patch.setattr(Gateway, "narrow", _anything),
        {"narrowed_while_open", "narrowed_later", "narrowed_name"},
    ),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_gateway_without_them_is_open(ground: Any, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    broken, cases = BROKEN[what]
    broken(monkeypatch)
    if what == "addresses":
        monkeypatch.setattr(gate, "may_dial", _anything)
    assert cases <= {result.case for result in await found(ground) if not result.ok}
