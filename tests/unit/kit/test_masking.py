"""Masking: every form of key and every known value, however the stream is cut; what is no secret stays as it is."""

import base64
import json
import re
import time
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tenantry.kit.masking.formats import FORMATS
from tenantry.kit.masking.known import MOST_PIECES, pieces_of, secrets_of
from tenantry.kit.masking.stream import MASKED, Mask, Masker

# Put together here, so that no scanner takes this file for a leak.
BODY = "a1B2c3D4e5"
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + f"MIIE{BODY * 6}\n" * 20 + "-----END RSA PRIVATE KEY-----"
KEYS = {
    "tenantry": f"tenantry_us_ws01h455vb4pex5vsknk084sn02q_{BODY * 3}xy_abc123",
    "aws_key_id": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws_temporary_key_id": "ASIA" + "IOSFODNN7EXAMPLE",
    "github": "ghp_" + BODY * 4,
    "github_oauth": "gho_" + BODY * 4,
    "github_fine_grained": "github_pat_" + f"11{BODY * 2}_{BODY * 5}",
    "gitlab": "glpat-" + BODY * 2,
    "slack": "xoxb-" + "123456789012-" + BODY,
    "slack_user": "xoxp-" + "123456789012-" + BODY,
    "stripe": "sk_live_" + BODY * 3,
    "openai": "sk-" + BODY * 5,
    "openai_project": "sk-proj-" + BODY * 5,
    "anthropic": "sk-ant-" + f"api03-{BODY * 6}",
    "google": "AIza" + BODY * 3 + "a1B2c",
    "jwt": f"eyJ{BODY * 3}.eyJ{BODY * 4}.{BODY * 4}_-x",
    "pem": PEM,
    "pem_pkcs8": PEM.replace(" RSA", ""),
}
IN_CONTEXT = {
    "bearer": ("Authorization: Bearer ", BODY * 3),
    "lower_bearer": ("authorization: bearer ", BODY * 3),
    "basic": ("Authorization: Basic ", base64.b64encode(b"user:password").decode()),
    "aws_secret": ('aws_secret_access_key = "', "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    "aws_secret_env": ("AWS_SECRET_ACCESS_KEY=", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    "aws_secret_json": ('"SecretAccessKey": "', "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
}
CANARY = "correct-horse battery&staple"
KNOWN = (CANARY, "first-line-of-it\nsecond-line-of-it\n", "x" * 700 + "the-end-of-a-long-one")
PLAIN = [
    "2024-05-01T12:00:00Z INFO request path=/api/v1/items?sk=1 status=200 user=alice",
    "the task-force-of-the-desk-research-department went on; risk-assessment-questionnaire-for-all",
    "tenantry_request_seconds_bucket{le=0.5} 3, tenantry_app, tenantry_directory and ghp_short",
    "bearer tokens are described in RFC 6750, basic ones in RFC 7617",
    "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
    "eyJhbGciOiJIUzI1NiJ9 alone is no token; AKIA neither, nor job_01h455vb4pex5vsknk084sn02q",
    "d41d8cd98f00b204e9800998ecf8427e  e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
]


def stream(masker: Masker, *pieces: bytes) -> bytes:
    return b"".join([*(masker.feed(piece) for piece in pieces), masker.finish()])


def cut(text: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(marks)]


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("around", [("", ""), ("key=", " ok"), ('{"k":"', '"}'), ("(", ")"), ("\n", "\n")])
def test_a_key_is_masked_by_its_form_alone(name: str, around: tuple[str, str]) -> None:
    before, after = around
    assert Mask().text(f"{before}{KEYS[name]}{after}") == f"{before}[masked]{after}"


@pytest.mark.parametrize("name", IN_CONTEXT)
def test_what_only_its_context_gives_away_is_masked_and_the_context_told(name: str) -> None:
    context, secret = IN_CONTEXT[name]
    assert Mask().text(f"x {context}{secret}\n") == f"x {context}[masked]\n"


def test_every_form_of_the_list_has_an_example() -> None:
    samples = [*KEYS.values(), *("".join(pair) for pair in IN_CONTEXT.values())]
    unseen = [form.name for form in FORMATS if not any(form.shape.search(sample.encode()) for sample in samples)]
    assert unseen == []


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert Mask(KNOWN).text(text) == text
    assert stream(Mask(KNOWN).stream(), *(bytes([byte]) for byte in text.encode())) == text.encode()


def test_bytes_that_are_no_text_pass() -> None:
    every = bytes(range(256)) * 3
    assert stream(Mask(KNOWN).stream(), every) == every


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        json.dumps(CANARY)[1:-1],
        quote(CANARY, safe=""),
        quote(CANARY),
        CANARY.replace(" ", "+").replace("&", "%26"),
        base64.b64encode(CANARY.encode()).decode().rstrip("="),
        base64.b64encode(b"u:" + CANARY.encode()).decode(),
        base64.urlsafe_b64encode(b"user:" + CANARY.encode() + b"!").decode(),
    ],
)
def test_a_known_value_is_masked_in_every_way_it_is_written(form: str) -> None:
    masked = Mask([CANARY]).text(f"<{form}>")
    assert "[masked]" in masked
    assert not any(form[at : at + 8] in masked for at in range(len(form) - 7))


@pytest.mark.parametrize(
    ("writer", "form"),
    [
        ("PHP", r"a\/b&c<d>\u00e9'f\"g+h"),
        ("Go, Rails", r"a/b\u0026c\u003cd\u003eé'f\"g+h"),
        (".NET", r"a/b\u0026c\u003Cd\u003E\u00E9\u0027f\u0022g\u002Bh"),
        ("html of Python", "a/b&amp;c&lt;d&gt;é&#x27;f&quot;g+h"),
        ("html of Go", "a/b&amp;c&lt;d&gt;é&#39;f&#34;g+h"),
        ("html of PHP", "a/b&amp;c&lt;d&gt;é&#039;f&quot;g+h"),
        ("text of html", "a/b&amp;c&lt;d&gt;é'f\"g+h"),
        ("small percents", "a%2fb%26c%3cd%3e%c3%a9%27f%22g%2bh"),
    ],
)
def test_a_value_that_a_server_shows_again_is_masked_as_its_writer_writes(writer: str, form: str) -> None:
    """Red once for all but the last but one."""
    assert Mask(["a/b&c<d>é'f\"g+h"]).text(f"{writer}: {form}!") == f"{writer}: [masked]!"


def test_a_value_of_several_lines_is_masked_line_by_line() -> None:
    masked = Mask(["first-line-of-it\nsecond-line-of-it"]).text("  first-line-of-it\n    second-line-of-it\n")
    assert masked == "  [masked]\n    [masked]\n"


def test_the_line_feed_at_the_end_of_a_value_is_none_of_it() -> None:
    assert Mask(["first-line&of-it\n"]).text("a first-line&of-it\nb\n") == "a [masked]\nb\n"


def test_what_touches_or_overlaps_is_one_mark() -> None:
    mask = Mask(["abcdefgh", "efghijkl"])
    assert mask.text("1abcdefghijkl2") == "1[masked]2"
    assert mask.text("abcdefghabcdefgh") == "[masked]"


def test_names_say_which_values_are_secret() -> None:
    environment = {
        "API_TOKEN": "v1", "token": "v2", "CLIENT_SECRET": "v3", "DB_PASSWORD": "v4", "SIGNING_KEY": "v5",
        "HOME": "/root", "KEYBOARD": "de", "TOKENS": "3", "MONKEY": "m", "DATABASE_URL": "postgres://app:v6@db/x",
    }  # fmt: skip
    assert set(secrets_of(environment)) == {"v1", "v2", "v3", "v4", "v5", "v6"}


def test_what_is_looked_for_is_bounded() -> None:
    pieces = pieces_of([f"{number}" * 50_000 for number in range(200)])
    assert len(pieces) <= MOST_PIECES
    assert max(map(len, pieces)) <= 256
    assert pieces_of(["true", "12345", ""]) == ()


def test_a_secret_cut_off_by_the_end_is_masked() -> None:
    assert stream(Mask([CANARY]).stream(), b"at " + CANARY[:-1].encode()) == b"at [masked]"
    assert stream(Mask().stream(), b"at ghp_" + b"a1B2" * 5) == b"at [masked]"
    assert stream(Mask().stream(), b"at -----BEGIN RSA PRIV") == b"at [masked]"


def test_a_key_block_without_an_end_hides_no_more_than_32_kib() -> None:
    begin = b"-----BEGIN PRIVATE KEY-----"
    masked = stream(Mask().stream(), *cut(begin + b"line\n" * 20_000, [100, 9_000, 40_000]))
    assert masked.startswith(MASKED)
    assert len(masked) == len(MASKED) + 100_000 - (32 << 10)


def test_nothing_is_held_back_that_cannot_become_a_secret() -> None:
    masker = Mask(KNOWN).stream()
    assert masker.feed(b"Enter a name: ") == b"Enter a name: "
    assert masker.feed(b"....") == b"...."
    assert masker.feed(b"corr") == b""
    assert masker.feed(b"idor\n") == b"corridor\n"


FRAGMENTS = st.sampled_from(
    [
        *KEYS.values(),
        *("".join(pair) for pair in IN_CONTEXT.values()),
        *KNOWN,
        *(text[: len(text) // 2] for text in (*KEYS.values(), *KNOWN)),
        *(prefix.decode() for form in FORMATS for prefix in form.prefixes),
        "-----END PRIVATE KEY-----", "a" * 300, "%3D", ".", " ", "\n", "x", "plain text", "naïve 🎉",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAGMENTS, max_size=12), st.lists(st.integers(min_value=0), max_size=40))
@example(["Authorization: Bearer ", "ghp_a1B2a1B2a1B2a1B2", " x"], list(range(60)))
@example([PEM, PEM], list(range(3000)))
@example(["AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"], [61])
def test_any_cut_gives_the_same(fragments: list[str], places: list[int]) -> None:
    text = "".join(fragments).encode()
    whole = stream(Mask(KNOWN).stream(), text)
    assert stream(Mask(KNOWN).stream(), *cut(text, places)) == whole
    assert CANARY.encode() not in whole
    for name in ("github", "gitlab", "pem"):
        assert KEYS[name].encode() not in whole
    # `sk-` in the middle of a word is the end of another, as in `task-`: such a key is none.
    openai = KEYS["openai"].encode()
    assert openai not in whole or re.search(rb"[A-Za-z0-9]" + openai, text)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=10))
def test_a_canary_never_appears(before: bytes, after: bytes, places: list[int]) -> None:
    text = before + CANARY.encode() + after
    masked = stream(Mask([CANARY]).stream(), *cut(text, places))
    assert CANARY.encode() not in masked
    assert MASKED in masked


@settings(max_examples=100, deadline=None)
@given(st.lists(FRAGMENTS, max_size=20), st.integers(min_value=1, max_value=50))
def test_little_is_held_back(fragments: list[str], size: int) -> None:
    text, masker = "".join(fragments).encode(), Mask(KNOWN).stream()
    for start in range(0, len(text), size):
        masker.feed(text[start : start + size])
        assert len(masker._held) < 1024


@pytest.mark.parametrize(
    "unit", [b"sk-", b"ghp_", b"eyJ", b"-eyJ", b"-----BEGIN PRIVATE KEY-----", b"Bearer ", b"a", b"tenantry_us_ws_"]
)
def test_hostile_output_costs_no_more_than_ten_times_what_it_should(unit: bytes) -> None:
    """Quadratic work would take minutes for this."""
    hostile = unit * ((1 << 18) // len(unit))
    started = time.process_time()
    stream(Mask(["a" * 256]).stream(), hostile)
    assert time.process_time() - started < 5.0


def test_what_a_mask_knows_does_not_show() -> None:
    assert CANARY not in repr(Mask([CANARY]))
