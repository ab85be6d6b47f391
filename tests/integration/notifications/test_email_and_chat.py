"""E-mail by a real SMTP server, chat services by apprise: whom it reaches, what it says, and what it never says."""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.integration.notifications.conftest import SENDER, Home, OpenHouse, settle
from tests.integration.notifications.receivers import Mailbox, Receiver, certificate_for, mailbox, receiving, until

from tenantry.capabilities.notifications.adapters.chat import ChatSender
from tenantry.capabilities.notifications.adapters.chat_child import PLUGINS
from tenantry.capabilities.notifications.adapters.email import EmailSender, SmtpServer
from tenantry.capabilities.notifications.errors import NotSentError
from tenantry.capabilities.notifications.service import HOST_SCHEMAS, VENDOR_SCHEMAS
from tenantry.capabilities.notifications.types import Address, Message
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.ids import new_id

pytestmark = pytest.mark.xdist_group("notifications")

MESSAGE = Message("dlv_01h455vb4pex5vsknk084sn02q", "grant.active", "[Tenantry] Grant active", "Grant active.\n", {})
TOKEN = "abcdefghijklmnopqrstuvwxyz"


async def test_an_email_channel_hears_of_events(acme: Home, post: Mailbox) -> None:
    made = await acme.channel("team@acme.example", kind="email")
    assert (made["hint"], made["secret"]) == ("…@acme.example", None)
    await acme.publish("grant.expiring", grant_id=new_id().hex, principal_id="svc_01h455vb4pex5vsknk084sn02q")
    await settle(acme.house.loop())
    [mail], [envelope] = post.mails, post.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, ["team@acme.example"])
    [delivery] = await acme.deliveries()
    assert mail["Subject"] == "[Tenantry] Grant expiring in Payments"
    assert mail["Message-ID"] == f"<{delivery['id']}@tenantry.example>"
    assert (mail["X-Tenantry-Delivery"], mail["Auto-Submitted"]) == (delivery["id"], "auto-generated")
    text = mail.get_content()
    for word in ("jit_", "svc_01h455vb4pex5vsknk084sn02q", acme.id, f"Payments ({acme.workspace})", delivery["id"]):
        assert word in text
    assert delivery["status"] == "sent"


async def test_who_is_concerned_is_told_by_email(acme: Home, post: Mailbox) -> None:
    user = await acme.user()
    await acme.publish("grant.active", principal_id=user, requested_by=user)
    await acme.publish("grant.denied", principal_id="svc_01h455vb4pex5vsknk084sn02q", requested_by=user)
    await acme.publish("grant.revoked", principal_id="usr_01h455vb4pex5vsknk084sn02q")
    await settle(acme.house.loop())
    await settle(acme.house.loop())
    assert [envelope.rcpt_tos for envelope in post.envelopes] == [[acme.email]] * 2
    found = await acme.deliveries()
    assert {(each["recipient"], each["channel"], each["status"]) for each in found} == {(user, None, "sent")}
    assert acme.email not in str(found)


async def test_without_an_smtp_server_nobody_is_written_to(open_house: OpenHouse) -> None:
    async with open_house() as house:
        made = await house.tenant()
        await made.publish("grant.active", principal_id=await made.user())
        await settle(house.loop())
        assert await made.deliveries() == []
        body = {"name": "x", "kind": "email", "address": "a@b.example", "topics": ["*"]}
        answer = await made.owner.post(made.path("notification-channels"), json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "email_not_configured")
        await made.owner.aclose()


@pytest.mark.parametrize(
    ("refusal", "status"), [("451 later", "pending"), ("550 nobody here", "failed")], ids=["for now", "for good"]
)
async def test_what_the_server_refuses_is_tried_again_or_not(
    refusal: str, status: str, acme: Home, post: Mailbox
) -> None:
    await acme.channel("team@acme.example", kind="email")
    post.refusals = [refusal]
    await acme.publish()
    loop = acme.house.loop()
    await settle(loop)
    [seen] = await acme.deliveries()
    assert (seen["status"], seen["last_error"]) == (status, f"smtp_{refusal[:3]}")
    acme.house.clock.ahead = timedelta(minutes=5)
    await settle(loop)
    assert len(post.envelopes) == (1 if status == "pending" else 0)


async def test_what_users_have_named_makes_no_header_no_mention_and_no_line(acme: Home, post: Mailbox) -> None:
    """Names are printable by rule, so a hostile one is put into the table as a stolen database would."""
    hostile = "x\r\nBcc: victim@evil.example\r\n\r\n<!channel> @everyone [a](http://evil.example)\u202e\x00"
    async with acme.house.ground.database().connected("superuser") as connection:
        await connection.execute(
            "update tenantry.workspaces set name = $2 where tenant_id = $1", acme.tenant_id, hostile.replace("\0", "")
        )
    await acme.channel("team@acme.example", kind="email")
    await acme.publish(requested_by="usr_1\r\nBcc: victim@evil.example", grant_id="a\nb", note="free text of somebody")
    await settle(acme.house.loop())
    [mail], [envelope] = post.mails, post.envelopes
    assert envelope.rcpt_tos == ["team@acme.example"]
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("[Tenantry] Grant active in x Bcc: victim·evil.example ·!channel· ·everyone")
    text = mail.get_content()
    for word in ("<!channel>", "@everyone", "[a]", "\u202e", "free text of somebody", "\nBcc"):
        assert word not in text + mail["Subject"]


async def test_a_header_with_a_line_break_is_refused_whoever_made_it(post: Mailbox) -> None:
    sender = EmailSender(SmtpServer(f"smtp://127.0.0.1:{post.port}?tls=none", SENDER), clock=SystemClock())
    message = Message("dlv_x", "grant.active", "a\r\nBcc: victim@evil.example", "b", {})
    with pytest.raises(ValueError, match=r".+"):
        await sender.send(Address("team@acme.example"), message)
    sender.close()
    assert post.envelopes == []


async def test_smtp_asks_for_tls_and_sends_nothing_without(tmp_path: Path) -> None:
    shown, trusting = certificate_for("localhost", tmp_path)
    password = "user:canary-smtp-password@"
    with mailbox(starttls=shown, login=True) as box:
        sender = EmailSender(
            SmtpServer(f"smtp://{password}localhost:{box.port}", SENDER), clock=SystemClock(), tls=trusting
        )
        await sender.send(Address("a@b.example"), MESSAGE)
        assert (box.encrypted, box.admitted) == ([True], [(b"user", b"canary-smtp-password")])
        sender.close()
        stranger = EmailSender(SmtpServer(f"smtp://{password}localhost:{box.port}", SENDER), clock=SystemClock())
        with pytest.raises(NotSentError, match="tls_failed"):
            await stranger.send(Address("a@b.example"), MESSAGE)
        stranger.close()
    with mailbox(tls=shown) as box:
        sender = EmailSender(SmtpServer(f"smtps://localhost:{box.port}", SENDER), clock=SystemClock(), tls=trusting)
        await sender.send(Address("a@b.example"), MESSAGE)
        assert len(box.envelopes) == 1
        sender.close()
    with mailbox() as box:
        sender = EmailSender(
            SmtpServer(f"smtp://{password}localhost:{box.port}", SENDER), clock=SystemClock(), tls=trusting
        )
        with pytest.raises(NotSentError, match="tls_not_offered"):
            await sender.send(Address("a@b.example"), MESSAGE)
        assert (box.envelopes, box.admitted) == ([], [])
        sender.close()


async def test_a_chat_service_is_told_by_apprise(acme: Home, receiver: Receiver) -> None:
    made = await acme.channel(f"mmost://127.0.0.1:{receiver.port}/{TOKEN}", kind="apprise")
    assert made["hint"] == f"mmost://127.0.0.1:{receiver.port}/…wxyz"
    await acme.publish("grant.active")
    await settle(acme.house.loop())
    [heard] = receiver.heard
    assert heard.path == f"/hooks/{TOKEN}"
    assert "Grant active in Payments" in heard.json["text"]
    assert [each["status"] for each in await acme.deliveries()] == ["sent"]


async def test_a_chat_service_that_refuses_is_tried_again(acme: Home, receiver: Receiver) -> None:
    await acme.channel(f"gotify://127.0.0.1:{receiver.port}/Abcdefghijklmno", kind="apprise")
    receiver.statuses = [500]
    await acme.publish()
    loop = acme.house.loop()
    await settle(loop)
    [seen] = await acme.deliveries()
    assert (seen["status"], seen["last_error"]) == ("pending", "service_refused")
    acme.house.clock.ahead = timedelta(minutes=5)
    await settle(loop)
    assert [each["status"] for each in await acme.deliveries()] == ["sent"]


async def test_the_child_connects_to_nothing_private_and_follows_no_redirect(receiver: Receiver) -> None:
    closed = ChatSender(allow_private=False)
    try:
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            with pytest.raises(NotSentError, match=r"address_private|service_refused|address_invalid"):
                await closed.send(Address(f"mmost://{host}:{receiver.port}/{TOKEN}"), MESSAGE)
        with pytest.raises(NotSentError, match="address_private"):
            await closed.send(Address(f"mmost://localhost:{receiver.port}/{TOKEN}"), MESSAGE)
    finally:
        await closed.close()
    assert receiver.heard == []
    opened = ChatSender(allow_private=True)
    with receiving() as second:
        receiver.statuses, receiver.headers = [302], {"Location": f"{second.url}/x"}
        with pytest.raises(NotSentError, match="service_refused"):
            await opened.send(Address(f"mmost://127.0.0.1:{receiver.port}/{TOKEN}?redirect=yes"), MESSAGE)
        assert second.heard == []
    await opened.close()


async def test_a_child_that_hangs_is_killed_and_one_that_idles_leaves(receiver: Receiver) -> None:
    sender = ChatSender(allow_private=True, seconds=3.0, idle_seconds=0.2)
    address = Address(f"ntfy://127.0.0.1:{receiver.port}/topic")
    await sender.send(address, MESSAGE)
    [child] = sender._idle
    assert child._process is not None
    pid = child._process.pid
    await asyncio.to_thread(until, lambda: not sender._idle and not os.path.exists(f"/proc/{pid}"))
    receiver.gate = lambda: time.sleep(4)
    with pytest.raises(NotSentError, match="timed_out"):
        await sender.send(address, MESSAGE)
    assert sender._idle == []
    receiver.gate = lambda: None
    await sender.send(address, MESSAGE)
    await sender.close()


async def test_the_child_sees_nothing_of_the_servers_environment(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a proxy nor a file of passwords: a tenant's host would be sent those of the server's user."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login x password canary-netrc\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    sender = ChatSender(allow_private=True)
    await sender.send(Address(f"mmost://127.0.0.1:{receiver.port}/{TOKEN}"), MESSAGE)
    await sender.close()
    assert "authorization" not in receiver.heard[0].headers


def test_every_scheme_that_is_allowed_has_its_plugin() -> None:
    from importlib import import_module

    assert PLUGINS.keys() == HOST_SCHEMAS | VENDOR_SCHEMAS
    for scheme, (module, name) in PLUGINS.items():
        plugin = getattr(import_module(f"apprise.plugins.{module}"), name)
        assert scheme in (plugin.protocol, plugin.secure_protocol)


async def test_a_password_of_the_smtp_server_is_in_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with mailbox(login=False) as box:
        server = SmtpServer(f"smtp://user:canary-smtp@127.0.0.1:{box.port}?tls=none", SENDER)
        assert "canary" not in repr(server)
        sender = EmailSender(server, clock=SystemClock())
        with pytest.raises(NotSentError) as refused:
            await sender.send(Address("a@b.example"), MESSAGE)
        sender.close()
    assert "canary" not in repr(refused.value) + caplog.text
