"""What may be the address of a channel, and what of it is shown."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.capabilities.notifications.service.addresses import hint_of, new_address, require_address
from tenantry.capabilities.notifications.service.composing import plain
from tenantry.capabilities.notifications.service.sending import retry_after
from tenantry.capabilities.notifications.types import MAX_ATTEMPTS, ChannelKind, ids_of
from tenantry.foundation.errors import Invalid

WEBHOOK, EMAIL, APPRISE = ChannelKind.WEBHOOK, ChannelKind.EMAIL, ChannelKind.APPRISE
GOOD = [
    (WEBHOOK, "https://hooks.example.com/services/T0/B0/secret"),
    (WEBHOOK, "http://hooks.example.com:8080/?a=b"),
    (WEBHOOK, "https://93.184.216.34/x"),
    (WEBHOOK, "https://[2606:4700::1111]/x"),
    (EMAIL, "a.b+c@mail.example.com"),
    (APPRISE, "slack://TokenA/TokenB/TokenC/#channel"),
    (APPRISE, "mmosts://chat.example.com/token?to=town"),
]
# Every spelling of an address that the system's own parser knows, and hosts no browser would take for one.
_PRIVATE = """
127.0.0.1 2130706433 0x7f000001 017700000001 127.1 127.0.1 0177.0.0.1 0x7f.0.0.1 0 0.0.0.0 10.0.0.1
169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 192.168.1.1 172.16.0.1 100.64.0.1 [::1] [::]
[::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:a9fe:a9fe] [64:ff9b::7f00:1] [fe80::1] [fd00:ec2::254]
[2002:7f00:1::]
"""
PRIVATE = _PRIVATE.split()
BAD = [
    (WEBHOOK, "ftp://hooks.example.com/"),
    (WEBHOOK, "file:///etc/passwd"),
    (WEBHOOK, "gopher://hooks.example.com/"),
    (WEBHOOK, "https://user:password@hooks.example.com/"),
    (WEBHOOK, "https://hooks.example.com@10.0.0.1/"),
    (WEBHOOK, "https://hooks.example.com/#fragment"),
    (WEBHOOK, "https://hooks.example.com/a b"),
    (WEBHOOK, "https://hooks.example.com/\r\nX: y"),
    (WEBHOOK, "https://hooks.example.com\\@evil.example/"),
    (WEBHOOK, "https://hooks.exam\u0440le.com/"),
    (WEBHOOK, "https:///x"),
    (WEBHOOK, "https://hooks.example.com:0/"),
    (WEBHOOK, "https://hooks.example.com:99999/"),
    (WEBHOOK, "https://[::1/"),
    (WEBHOOK, "hooks.example.com"),
    (WEBHOOK, "https://h.example/" + "x" * 2000),
    (EMAIL, "nobody"),
    (EMAIL, "a@b"),
    (EMAIL, "a@b.example, c@d.example"),
    (EMAIL, "a@b.example\nBcc: c@d.example"),
    (EMAIL, "Name <a@b.example>"),
    (EMAIL, '"a b"@c.example'),
    (EMAIL, "a..b@c.example"),
    (EMAIL, "a@" + "b" * 300 + ".example"),
    (APPRISE, "syslog://"),
    (APPRISE, "syslog://localhost/daemon"),
    (APPRISE, "dbus://"),
    (APPRISE, "json://hooks.example.com/"),
    (APPRISE, "mailto://user:pass@mail.example.com"),
    (APPRISE, "windows://"),
    (APPRISE, "file:///etc/passwd"),
    (APPRISE, "exec://rm"),
    (APPRISE, "https://hooks.slack.com/services/a/b/c"),
    (APPRISE, "slack://a/b/c?template=/etc/passwd"),
    (APPRISE, "slack://a/b/c?template=http://169.254.169.254/"),
    (APPRISE, "gotifys://g.example/token?verify=no"),
    (APPRISE, "mmosts://chat.example.com/token?+X-Header=y"),
    (APPRISE, "mmosts://chat.example.com/token?redirect="),
    (APPRISE, "mmosts:///token"),
]


@pytest.mark.parametrize(("kind", "text"), GOOD)
def test_an_address_of_its_kind_is_taken(kind: ChannelKind, text: str) -> None:
    require_address(kind, text, allow_private=False)


@pytest.mark.parametrize(("kind", "text"), BAD)
@pytest.mark.parametrize("allowed", [False, True])
def test_any_other_is_refused_and_not_repeated(kind: ChannelKind, text: str, *, allowed: bool) -> None:
    with pytest.raises(Invalid) as refused:
        require_address(kind, text, allow_private=allowed)
    assert refused.value.code == "address_invalid"
    assert text not in str(refused.value) + str(refused.value.fields)


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize(("kind", "scheme"), [(WEBHOOK, "https"), (WEBHOOK, "http"), (APPRISE, "mmosts")])
def test_no_spelling_of_a_private_address_is_taken(host: str, kind: ChannelKind, scheme: str) -> None:
    text = f"{scheme}://{host}:8443/token"
    with pytest.raises(Invalid) as refused:
        require_address(kind, text, allow_private=False)
    assert refused.value.code == "address_private"
    require_address(kind, text, allow_private=True)


@given(st.text(max_size=60), st.sampled_from(list(ChannelKind)))
def test_whatever_is_written_is_taken_or_refused(text: str, kind: ChannelKind) -> None:
    for form in (text, f"https://{text}", f"mmost://{text}", f"slack://{text}", f"{text}@b.example"):
        with suppress(Invalid):
            require_address(kind, form, allow_private=False)
            assert form.isascii()
            assert form.isprintable()


@pytest.mark.parametrize(
    ("kind", "text", "shown"),
    [
        (WEBHOOK, "https://hooks.example.com/services/T0/B0/secret", "https://hooks.example.com/…cret"),
        (WEBHOOK, "https://hooks.example.com:8443/short", "https://hooks.example.com:8443/…"),
        (WEBHOOK, "https://hooks.example.com", "https://hooks.example.com"),
        (EMAIL, "someone@acme.example", "…@acme.example"),
        (APPRISE, "slack://TokenA/TokenB/TokenC", "slack:///…kenC"),
        (APPRISE, "mmosts://bot:pw@chat.example.com/abcdefghijklmnop", "mmosts://chat.example.com/…mnop"),
    ],
)
def test_what_is_shown_is_the_host_and_four_characters_at_most(kind: ChannelKind, text: str, shown: str) -> None:
    assert hint_of(kind, text) == shown


def test_a_webhook_gets_a_secret_and_no_other_kind() -> None:
    made = [new_address(kind, "x") for kind in (WEBHOOK, WEBHOOK, EMAIL, APPRISE)]
    assert made[0].secret != made[1].secret
    assert [each.secret for each in made[2:]] == [None, None]
    assert str(made[0].secret) not in repr(made[0])


def test_retries_wait_longer_each_time_for_about_three_hours() -> None:
    for _ in range(50):
        waits = [retry_after(number).total_seconds() for number in range(1, MAX_ATTEMPTS)]
        assert waits == sorted(waits)
        assert 2.4 * 3600 < sum(waits) < 3.7 * 3600
    assert len({retry_after(3) for _ in range(20)}) > 10


@given(st.text())
def test_a_text_of_users_is_one_short_line_without_markup(text: str) -> None:
    made = plain(text)
    assert len(made) <= 200
    assert made == made.strip()
    assert made.isprintable()
    assert not set(made) & set("<>&@*`~|#[]\\")


def test_only_what_has_the_form_of_an_id_leaves_a_payload() -> None:
    payload = {
        "grant_id": "0" * 32,
        "role": "operator",
        "reason": "because I say so",
        "x\ny": "a",
        "n": 3,
        "nested": {"a": "b"},
        "long": "a" * 101,
    }
    assert ids_of(payload) == {"grant_id": "0" * 32, "role": "operator"}
