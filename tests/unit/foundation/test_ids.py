"""TypeIDs as the specification has them (https://github.com/jetify-com/typeid, valid.yml and invalid.yml)."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, first_id_at, format_id, moment_of, new_id, parse_id, parse_suffix, suffix_of

VALID = {
    "00000000000000000000000000": "00000000-0000-0000-0000-000000000000",
    "00000000000000000000000001": "00000000-0000-0000-0000-000000000001",
    "0000000000000000000000000a": "00000000-0000-0000-0000-00000000000a",
    "0000000000000000000000000g": "00000000-0000-0000-0000-000000000010",
    "00000000000000000000000010": "00000000-0000-0000-0000-000000000020",
    "0123456789abcdefghjkmnpqrs": "0110c853-1d09-52d8-d73e-1194e95b5f19",
    "01h455vb4pex5vsknk084sn02q": "01890a5d-ac96-774b-bcce-b302099a8057",
    "7zzzzzzzzzzzzzzzzzzzzzzzzz": "ffffffff-ffff-ffff-ffff-ffffffffffff",
}
GOOD = "01h455vb4pex5vsknk084sn02q"


@pytest.mark.parametrize(("suffix", "uuid"), VALID.items())
def test_the_vectors_of_the_specification_read_and_write(suffix: str, uuid: str) -> None:
    assert suffix_of(UUID(uuid)) == suffix
    assert parse_suffix(suffix) == UUID(uuid)


@examples(deadline=None)
@given(uuid=st.uuids(), prefix=st.sampled_from(Prefix))
def test_every_uuid_under_every_prefix_comes_back(uuid: UUID, prefix: Prefix) -> None:
    text = format_id(prefix, uuid)
    assert len(text) == len(prefix.value) + 1 + 26
    assert parse_id(prefix, text) == uuid


@examples(deadline=None)
@given(first=st.uuids(), second=st.uuids())
def test_texts_sort_as_their_uuids(first: UUID, second: UUID) -> None:
    assert (suffix_of(first) < suffix_of(second)) == (first < second)


@pytest.mark.parametrize(
    "suffix",
    [
        "8zzzzzzzzzzzzzzzzzzzzzzzzz",
        "80000000000000000000000000",
        "zzzzzzzzzzzzzzzzzzzzzzzzzz",
        GOOD.upper(),
        GOOD[:-1] + "Q",
        *(GOOD[:-1] + letter for letter in "ilou"),
        *(letter + GOOD[1:] for letter in "ilou"),
        GOOD[:-1],
        GOOD + "0",
        "",
        GOOD[:-1] + " ",
        GOOD[:-1] + "\n",
        "-" + GOOD[1:],
        GOOD[:-1] + "٣",
        "00041061050r3gg28a1c60t3gf-",
    ],
)
def test_a_suffix_that_is_not_exactly_right_is_refused(suffix: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_suffix(suffix)
    assert refused.value.code == "id_malformed"


@pytest.mark.parametrize(
    "text",
    [
        f"ws_{GOOD}",
        f"JOB_{GOOD}",
        f"_{GOOD}",
        GOOD,
        f"job{GOOD}",
        f"job__{GOOD}",
        f"job_job_{GOOD}",
        f" job_{GOOD}",
        "",
    ],
)
def test_a_prefix_that_is_not_exactly_right_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_id(Prefix.JOB, text)
    assert refused.value.code == "id_malformed"


@examples(deadline=None)
@given(text=st.text(max_size=40))
def test_whatever_reads_as_a_suffix_is_the_one_text_of_its_uuid(text: str) -> None:
    try:
        uuid = parse_suffix(text)
    except Invalid:
        return
    assert suffix_of(uuid) == text


def test_ids_of_one_process_sort_by_the_time_they_were_made() -> None:
    made = [new_id() for _ in range(2000)]
    assert made == sorted(made)
    assert [suffix_of(uuid) for uuid in made] == sorted(suffix_of(uuid) for uuid in made)
    assert len(set(made)) == len(made)
    assert {uuid.version for uuid in made} == {7}


def test_a_prefix_names_one_noun() -> None:
    values = [prefix.value for prefix in Prefix]
    assert len(set(values)) == len(values)
    assert all(value.isascii() and value.isalpha() and value.islower() for value in values)


def test_an_id_tells_when_it_was_made_and_no_id_has_none() -> None:
    at = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
    assert moment_of(first_id_at(at)) == at
    assert moment_of(UUID(int=0)) == datetime(1970, 1, 1, tzinfo=UTC)
    assert moment_of(UUID(int=(1 << 128) - 1)) > datetime(9999, 12, 31, 23, tzinfo=UTC)
