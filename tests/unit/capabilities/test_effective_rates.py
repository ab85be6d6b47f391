"""What comes of all layers: never more than any of them allows, and whoever reads it sees who said so."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.capabilities.limits.service import platform_rates
from tenantry.capabilities.limits.service.effective import effective_rates
from tenantry.capabilities.limits.types import Action, Holder, Layer, Rate, Rates
from tenantry.foundation.errors import Invalid
from tenantry.foundation.limit_settings import RateSettings

_WORKSPACE = uuid4()


def rate(requests: int, window_ms: int = 60_000, burst: int | None = None) -> Rate:
    return Rate(requests, window_ms, burst or requests)


def test_the_lowest_pace_and_the_lowest_burst_count_each_by_its_layer() -> None:
    layers: dict[Layer, Rates] = {
        Layer.PLATFORM: {"api_requests": rate(1000, burst=7)},
        Layer.PLAN: {"api_requests": rate(100)},
        Layer.TENANT: {"api_requests": rate(2, 1000)},
    }
    (found,) = effective_rates(layers, workspace_id=None)
    assert (found.rate, found.layer, found.burst_layer) == (rate(100, burst=2), Layer.PLAN, Layer.TENANT)
    assert found.layers == {layer: rates["api_requests"] for layer, rates in layers.items()}


def test_what_no_layer_names_is_not_limited() -> None:
    assert effective_rates({Layer.PLAN: {}}, workspace_id=_WORKSPACE) == ()


def test_a_workspace_narrows_itself_and_those_in_it_alone() -> None:
    layers: dict[Layer, Rates] = {
        Layer.PLAN: {"api_requests": rate(100), "workspace.api_requests": rate(50), "principal.api_requests": rate(20)},
        Layer.WORKSPACE: {"api_requests": rate(10), "principal.api_requests": rate(5)},
    }
    found = {(each.holder, each.within): each for each in effective_rates(layers, workspace_id=_WORKSPACE)}
    assert found[Holder.TENANT, None].rate == rate(100)
    assert found[Holder.WORKSPACE, _WORKSPACE].rate == rate(10)
    assert found[Holder.WORKSPACE, _WORKSPACE].layer is Layer.WORKSPACE
    assert found[Holder.PRINCIPAL, None].rate == rate(20)
    assert found[Holder.PRINCIPAL, _WORKSPACE].rate == rate(5)
    elsewhere = effective_rates({Layer.PLAN: layers[Layer.PLAN]}, workspace_id=uuid4())
    assert {each.rate for each in elsewhere} == {rate(100), rate(50), rate(20)}


_RATES = st.builds(
    lambda requests, window, burst: Rate(requests, window, min(burst, requests)),
    st.integers(1, 1000),
    st.integers(1, 100_000),
    st.integers(1, 1000),
)


@given(st.dictionaries(st.sampled_from([Layer.PLATFORM, Layer.PLAN, Layer.TENANT]), _RATES, min_size=1))
def test_no_layer_is_passed(rates: dict[Layer, Rate]) -> None:
    layers: dict[Layer, Rates] = {layer: {"api_requests": each} for layer, each in rates.items()}
    (found,) = effective_rates(layers, workspace_id=None)
    assert found.action is Action.API_REQUESTS
    for each in rates.values():
        assert found.rate.pace <= each.pace
        assert found.rate.burst <= each.burst
    assert found.rate.pace == rates[found.layer].pace
    assert found.rate.burst == rates[found.burst_layer].burst


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("requests", RateSettings(max_requests=1, window_ms=1)),
        ("team.api_requests", RateSettings(max_requests=1, window_ms=1)),
        ("api_requests", RateSettings(max_requests=2000, window_ms=1)),
        ("api_requests", RateSettings(max_requests=2, window_ms=1, burst=3)),
        ("api_requests", RateSettings(max_requests=2, window_ms=10**12)),
    ],
)
def test_a_rate_of_the_installation_that_cannot_be_counted_stops_the_start(name: str, value: RateSettings) -> None:
    with pytest.raises(Invalid, match=r"limits\.rates"):
        platform_rates({name: value})
