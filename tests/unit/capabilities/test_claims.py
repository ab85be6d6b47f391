"""What claims give: exactly what a rule names, never something like it."""

from typing import Any
from uuid import uuid4

import pytest

from tenantry.capabilities.identity.service.claims import roles_given, verified_email
from tenantry.capabilities.identity.types import ClaimRule, GivenRole, Match

PLACE = uuid4()


def gives(match: Match, claim: str, value: str, claims: dict[str, Any]) -> bool:
    return bool(roles_given([ClaimRule(claim, match, value, "viewer", None)], claims))


@pytest.mark.parametrize(
    ("claims", "given"),
    [
        ({"groups": ["staff", "admins"]}, True),
        ({"groups": ["not-admins"]}, False),
        ({"groups": "admins"}, False),
        ({"groups": "staff admins"}, False),
        ({"groups": ["ADMINS"]}, False),
        ({"groups": [["admins"]]}, False),
        ({"groups": {"admins": True}}, False),
        ({"groups": None}, False),
        ({}, False),
    ],
)
def test_contains_is_an_element_of_a_list(claims: dict[str, Any], given: bool) -> None:
    assert gives(Match.CONTAINS, "groups", "admins", claims) is given


@pytest.mark.parametrize(
    ("value", "wanted", "given"),
    [
        ("a", "a", True),
        ("A", "a", False),
        (True, "true", True),
        (1, "1", True),
        (1, "true", False),
        (["a"], "a", False),
    ],
)
def test_equals_is_the_whole_claim(value: Any, wanted: str, given: bool) -> None:
    assert gives(Match.EQUALS, "level", wanted, {"level": value}) is given


@pytest.mark.parametrize(
    ("email", "given"),
    [
        ("ann@example.com", True),
        ("Ann@EXAMPLE.com", True),
        ("ann@sub.example.com", False),
        ("ann@notexample.com", False),
        ("ann@example.com.evil.example", False),
        ("ann@example.com@evil.example", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_an_address_is_at_a_domain_or_is_not(email: str, given: bool) -> None:
    claims = {"email": email, "email_verified": True}
    assert gives(Match.MATCHES_DOMAIN, "email", "example.com", claims) is given


@pytest.mark.parametrize("verified", [False, None, "true", 1, "yes", [True]])
def test_an_address_that_is_not_verified_is_no_claim(verified: Any) -> None:
    claims = {"email": "ann@example.com", "email_verified": verified}
    assert not gives(Match.MATCHES_DOMAIN, "email", "example.com", claims)
    assert not gives(Match.EQUALS, "email", "ann@example.com", claims)
    assert verified_email(claims) is None


def test_a_domain_claim_counts_as_the_domain() -> None:
    assert gives(Match.MATCHES_DOMAIN, "hd", "example.com", {"hd": "Example.com"})


def test_names_may_hold_dots_and_lead_inside() -> None:
    assert gives(Match.CONTAINS, "realm_access.roles", "a", {"realm_access": {"roles": ["a"]}})
    assert gives(Match.EQUALS, "https://x.example/level", "a", {"https://x.example/level": "a"})
    # What stands there by its full name counts, not what the path would lead to.
    assert not gives(Match.EQUALS, "a.b", "x", {"a.b": "y", "a": {"b": "x"}})


def test_every_rule_that_matches_gives_once() -> None:
    rule = ClaimRule("a", Match.EQUALS, "1", "viewer", None)
    there = ClaimRule("a", Match.EQUALS, "1", "ci", PLACE)
    never = ClaimRule("b", Match.EQUALS, "1", "tenant-admin", None)
    assert roles_given([rule, there, rule, never], {"a": "1"}) == [GivenRole("viewer", None), GivenRole("ci", PLACE)]
