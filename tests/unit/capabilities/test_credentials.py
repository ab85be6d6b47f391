"""The text of a key: what was made reads back, what was mistyped does not; what is stored is no key."""

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tenantry.capabilities.identity.service import KeyHasher
from tenantry.capabilities.identity.types import ScopeKind, checksum, make_credential, read_credential
from tenantry.foundation.ids import suffix_of

SCOPE_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KINDS = [(ScopeKind.PLATFORM, None), (ScopeKind.TENANT, SCOPE_ID), (ScopeKind.WORKSPACE, SCOPE_ID)]
PEPPER = b"p" * 32
BODY = f"tenantry_us_ws{suffix_of(SCOPE_ID)}_{'Ab1' * 10}xy"
TEXT = f"{BODY}_{checksum(BODY)}"


def sealed(body: str) -> str:
    return f"{body}_{checksum(body)}"


@pytest.mark.parametrize("region", ["us", "eu", "eu-west-1"])
@pytest.mark.parametrize(("kind", "scope_id"), KINDS)
def test_a_key_reads_back_as_what_it_was_made_for(region: str, kind: ScopeKind, scope_id: UUID | None) -> None:
    made = make_credential(region=region, kind=kind, scope_id=scope_id)
    assert read_credential(made.text) == made
    assert (made.region, made.kind, made.scope_id) == (region, kind, scope_id)
    scope = kind.value + (suffix_of(scope_id) if scope_id else "")
    assert re.fullmatch(rf"tenantry_{region}_{scope}_[0-9A-Za-z]{{32}}_[0-9A-Za-z]{{6}}", made.text)


@examples(deadline=None, max_examples=30)
@given(region=st.from_regex(r"[a-z][a-z0-9-]{1,15}", fullmatch=True), scope_id=st.uuids())
def test_every_region_and_scope_reads_back(region: str, scope_id: UUID) -> None:
    for kind in (ScopeKind.TENANT, ScopeKind.WORKSPACE):
        made = make_credential(region=region, kind=kind, scope_id=scope_id)
        read = read_credential(made.text)
        assert read is not None
        assert (read.region, read.kind, read.scope_id) == (region, kind, scope_id)


def test_no_two_keys_are_alike() -> None:
    made = {make_credential(region="us", kind=ScopeKind.PLATFORM, scope_id=None).text for _ in range(500)}
    assert len(made) == 500


def test_the_checksum_is_crc_32_in_six_base62_characters() -> None:
    assert checksum("") == "000000"
    assert checksum("123456789") == "3jZRME" == _base62(0xCBF43926)  # the check value of CRC-32/ISO-HDLC


def _base62(number: int) -> str:
    return (_base62(number // 62) if number >= 62 else "") + BASE62[number % 62]


@examples(deadline=None, max_examples=300)
@given(place=st.integers(0, len(TEXT) - 1), character=st.characters())
def test_a_key_with_one_character_changed_is_no_key(place: int, character: str) -> None:
    changed = TEXT[:place] + character + TEXT[place + 1 :]
    assert (read_credential(changed) is None) == (changed != TEXT)


def test_a_key_with_one_base62_character_changed_anywhere_is_no_key() -> None:
    for place, former in enumerate(TEXT):
        for character in set(BASE62 + "_-") - {former}:
            assert read_credential(TEXT[:place] + character + TEXT[place + 1 :]) is None


def test_a_key_with_two_neighbours_swapped_or_one_lost_is_no_key() -> None:
    for place in range(len(TEXT) - 1):
        swapped = TEXT[:place] + TEXT[place + 1] + TEXT[place] + TEXT[place + 2 :]
        assert (read_credential(swapped) is None) == (swapped != TEXT)
        assert read_credential(TEXT[:place] + TEXT[place + 1 :]) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tenantry",
        "____",
        sealed("tenantry_us_platform"),
        sealed("tenantry_us_platform_a_b"),
        sealed(f"Tenantry_us_platform_{'a' * 32}"),
        sealed(f"other_us_platform_{'a' * 32}"),
        sealed(f"tenantry_us_platforms_{'a' * 32}"),
        sealed(f"tenantry_us_ws_{'a' * 32}"),
        sealed(f"tenantry_us_job{suffix_of(SCOPE_ID)}_{'a' * 32}"),
        sealed(f"tenantry_us_ws{suffix_of(SCOPE_ID).upper()}_{'a' * 32}"),
        sealed(f"tenantry_us_ten8{'z' * 25}_{'a' * 32}"),
        f" {TEXT}",
        f"{TEXT}\n",
        f"Bearer {TEXT}",
    ],
)
def test_what_has_another_form_is_no_key(text: str) -> None:
    assert read_credential(text) is None


def test_a_key_is_ascii_of_at_most_128_characters() -> None:
    fill = 128 - len(sealed(f"tenantry__platform_{'a' * 32}"))
    assert read_credential(sealed(f"tenantry_{'r' * fill}_platform_{'a' * 32}")) is not None
    assert read_credential(sealed(f"tenantry_{'r' * (fill + 1)}_platform_{'a' * 32}")) is None
    assert read_credential(sealed(f"tenantry_us_platform_{'é' * 32}")) is None
    assert read_credential("tenantry_" * 1_000_000) is None


def test_the_longest_key_that_can_be_made_can_be_read() -> None:
    made = make_credential(region="r" * 16, kind=ScopeKind.TENANT, scope_id=UUID(int=2**128 - 1))
    assert read_credential(made.text) == made


def test_a_key_is_not_shown() -> None:
    made = make_credential(region="us", kind=ScopeKind.PLATFORM, scope_id=None)
    assert made.text.split("_")[3] not in f"{made!r}{made}{[made]}"


def test_a_hasher_matches_the_key_it_hashed_and_no_other() -> None:
    hasher = KeyHasher(PEPPER)
    verifier = hasher.verifier(TEXT)
    assert hasher.matches(TEXT, verifier)
    assert not hasher.matches(TEXT[:-1], verifier)
    assert not hasher.matches("", verifier)
    assert not hasher.matches(TEXT, verifier[:-1])
    assert not hasher.matches(TEXT, b"")
    assert not hasher.matches(TEXT, hasher.lookup(TEXT))


def test_a_hash_is_worthless_under_another_pepper() -> None:
    assert not KeyHasher(b"q" * 32).matches(TEXT, KeyHasher(PEPPER).verifier(TEXT))
    assert KeyHasher(b"q" * 32).lookup(TEXT) != KeyHasher(PEPPER).lookup(TEXT)


def test_what_finds_a_key_says_nothing_of_what_verifies_it() -> None:
    hasher = KeyHasher(PEPPER)
    lookup, verifier = hasher.lookup(TEXT), hasher.verifier(TEXT)
    assert len(verifier) == 32
    assert 8 <= len(lookup) < 32
    assert not verifier.startswith(lookup)
    assert TEXT.encode() not in lookup + verifier


@examples(deadline=None)
@given(first=st.text(st.characters(max_codepoint=126), max_size=128), second=st.text(max_size=128).map(ascii))
def test_only_the_same_text_matches(first: str, second: str) -> None:
    hasher = KeyHasher(PEPPER)
    assert hasher.matches(first, hasher.verifier(second)) == (first == second)
    assert hasher.matches(second, hasher.verifier(second))
