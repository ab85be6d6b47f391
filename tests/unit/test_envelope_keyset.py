"""Keysets: what a key seals opens in its place, under its key, as long as that key is there."""

import asyncio
import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.engines.envelope.keyset import DataKey, Keyset, KeyState
from tenantry.engines.envelope.keyset_cache import KeysetCache
from tenantry.engines.envelope.keyset_wrapper import KeysetWrapper
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.errors import Conflict, Fault, Gone, Invalid, Unavailable

CANARY = b"CANARY-7f3a"
PLACE = b"owner|table|column|row"


class TurnedClock(SystemClock):
    at = 100.0

    def monotonic(self) -> float:
        return self.at


class CountingWrapper(KeysetWrapper):
    """A real wrapper that counts its calls and may be held up or switched off."""

    def __init__(self, keyset: Keyset) -> None:
        super().__init__(keyset)
        self.calls = 0
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        self.calls += 1
        await self.gate.wait()
        if self.down:
            raise Unavailable("kms_unavailable", "off")
        return await super().unwrap(wrapped, context=context)


@given(plaintext=st.binary(max_size=500), place=st.binary(max_size=80))
@settings(deadline=None)
def test_what_is_sealed_opens_in_its_place(plaintext: bytes, place: bytes) -> None:
    keyset = Keyset.create()
    sealed = keyset.seal(plaintext, place)
    assert keyset.open(sealed, place) == plaintext
    assert len(sealed) == len(plaintext) + 33
    assert keyset.seal(plaintext, place) != sealed


@pytest.mark.parametrize("place", [b"", PLACE + b"2", PLACE[:-1], b"\x01" + PLACE])
def test_a_ciphertext_moved_to_another_place_does_not_open(place: bytes) -> None:
    keyset = Keyset.create()
    with pytest.raises(Fault) as refused:
        keyset.open(keyset.seal(CANARY, PLACE), place)
    assert refused.value.code == "sealed_unreadable"


def test_no_error_and_no_repr_tells_plaintext_or_keys() -> None:
    keyset = Keyset.create()
    sealed = keyset.seal(CANARY, PLACE)
    with pytest.raises(Fault) as refused:
        keyset.open(sealed[:-1], PLACE)
    told = f"{refused.value!r}{refused.value.fields}{keyset!r}{refused.value.__cause__}"
    assert "CANARY" not in told
    assert "PLACE" not in told
    for serialise in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            serialise(keyset)


@given(at=st.integers(0, 60), flip=st.integers(1, 255))
@settings(deadline=None)
def test_no_byte_of_a_ciphertext_can_change(at: int, flip: int) -> None:
    keyset = Keyset.create()
    sealed = bytearray(keyset.seal(CANARY, PLACE))
    sealed[at % len(sealed)] ^= flip
    with pytest.raises(Fault):
        keyset.open(bytes(sealed), PLACE)


@pytest.mark.parametrize("content", [b"", b"\x01", bytes(33), b"\x01" + bytes(40), CANARY])
def test_what_was_never_sealed_does_not_open(content: bytes) -> None:
    with pytest.raises(Fault):
        Keyset.create().open(content, PLACE)


def test_rotation_seals_with_the_new_key_and_opens_with_all_live_ones() -> None:
    keyset = Keyset.create()
    sealed = []
    for number in range(1, 11):
        sealed.append(keyset.seal(CANARY, PLACE))
        assert keyset.active == number
        keyset = keyset.rotated() if number < 10 else keyset
    assert all(keyset.open(one, PLACE) == CANARY for one in sealed)
    assert [keyset.is_current(one) for one in sealed] == [False] * 9 + [True]
    with pytest.raises(Conflict) as full:
        keyset.rotated()
    assert full.value.code == "keyset_full"
    assert keyset.retired(1).rotated().active == 11


def test_a_retired_key_is_gone_and_its_material_too() -> None:
    first = Keyset.create()
    sealed = first.seal(CANARY, PLACE)
    material = first.secret()[-40:-10]
    both = first.rotated()
    with pytest.raises(Conflict):
        both.retired(2)
    with pytest.raises(Invalid):
        both.retired(9)
    left = both.retired(1).retired(1)
    assert left.keys == (DataKey(1, KeyState.RETIRED), DataKey(2, KeyState.ACTIVE))
    assert both.keys == (DataKey(1, KeyState.GRACE), DataKey(2, KeyState.ACTIVE))
    with pytest.raises(Gone) as gone:
        left.open(sealed, PLACE)
    assert gone.value.code == "key_destroyed"
    assert material in both.secret()
    assert material not in left.secret()
    assert Keyset.parse(left.secret()).keys == left.keys


async def test_a_keyset_wrapped_for_one_owner_does_not_unwrap_for_another() -> None:
    wrapper = KeysetWrapper(Keyset.create())
    keyset = Keyset.create()
    wrapped = await keyset.wrapped(wrapper=wrapper, context=b"owner-1")
    again = await Keyset.unwrap(wrapped, wrapper=wrapper, context=b"owner-1")
    assert again.open(keyset.seal(CANARY, PLACE), PLACE) == CANARY
    for other, context in ((wrapper, b"owner-2"), (KeysetWrapper(Keyset.create()), b"owner-1")):
        with pytest.raises(Fault) as refused:
            await Keyset.unwrap(wrapped, wrapper=other, context=context)
        assert refused.value.code == "wrapped_unreadable"


@pytest.mark.parametrize("content", [b"", b"\x00", CANARY, b"\x08\x01"])
def test_bytes_that_are_no_keyset_are_refused(content: bytes) -> None:
    with pytest.raises(Fault) as refused:
        Keyset.parse(content)
    assert "CANARY" not in f"{refused.value!r}{refused.value.__cause__}"


def test_more_than_16_mib_is_a_stream() -> None:
    with pytest.raises(Invalid):
        Keyset.create().seal(bytes((16 << 20) + 1), PLACE)


async def test_the_cache_asks_the_kms_once_for_many_and_again_after_its_time() -> None:
    clock, wrapper = TurnedClock(), CountingWrapper(Keyset.create())
    cache = KeysetCache(wrapper, clock, ttl_seconds=10)
    wrapped = await Keyset.create().wrapped(wrapper=wrapper, context=b"o")
    wrapper.gate.clear()
    waiting = [asyncio.create_task(cache.get(wrapped, context=b"o")) for _ in range(20)]
    await asyncio.sleep(0)
    waiting.pop().cancel()
    wrapper.gate.set()
    await asyncio.gather(*waiting)
    await cache.get(wrapped, context=b"o")
    assert wrapper.calls == 1
    clock.at += 11
    await cache.get(wrapped, context=b"o")
    assert wrapper.calls == 2


async def test_a_forgotten_owner_is_asked_for_anew_even_when_an_answer_was_on_its_way() -> None:
    wrapper = CountingWrapper(Keyset.create())
    cache = KeysetCache(wrapper, TurnedClock())
    wrapped = await Keyset.create().wrapped(wrapper=wrapper, context=b"o")
    await cache.get(wrapped, context=b"o")
    cache.forget(b"o")
    wrapper.gate.clear()
    late = asyncio.create_task(cache.get(wrapped, context=b"o"))
    await asyncio.sleep(0)
    cache.forget(b"o")
    wrapper.gate.set()
    await late
    assert len(cache) == 0
    wrapper.down = True
    with pytest.raises(Unavailable):
        await cache.get(wrapped, context=b"o")


async def test_the_cache_never_gives_one_owners_keyset_for_anothers_context() -> None:
    wrapper = CountingWrapper(Keyset.create())
    cache = KeysetCache(wrapper, TurnedClock(), capacity=2)
    wrapped = await Keyset.create().wrapped(wrapper=wrapper, context=b"o")
    await cache.get(wrapped, context=b"o")
    with pytest.raises(Fault):
        await cache.get(wrapped, context=b"p")
    for context in (b"1", b"2", b"3"):
        await cache.get(await Keyset.create().wrapped(wrapper=wrapper, context=context), context=context)
    assert len(cache) == 2


def test_importing_the_engine_does_not_import_tink() -> None:
    modules = ["keyset", "keyset_cache", "keyset_wrapper", "key_file", "streams", "wrapping"]
    program = "".join(f"import tenantry.engines.envelope.{name}\n" for name in modules)
    program += "import sys; print([name for name in sys.modules if name.split('.')[0] in {'tink', 'google'}])"
    got: Any = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert got.stdout == "[]\n"
