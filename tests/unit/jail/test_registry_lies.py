"""Registries that lie, break off, send elsewhere or ask for what is not theirs: nothing is believed or given away."""

import ssl
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.authority import Authority, Issued
from tests.oci import Made, digest, layer_of, make_image, make_index
from tests.unit.jail.speaking import Asked, Say, Speaker, reply, serve_image, speaking

from tenantry.engines.jail.oci import machine_platform
from tenantry.engines.jail.registries import Credentials, Registries, pullable
from tenantry.engines.jail.registry import Progress, Resolved, download, resolve
from tenantry.engines.jail.registry_calls import RegistryCalls
from tenantry.foundation.errors import TenantryError

USER, PASSWORD, TOKEN = "canary-user", "canary-password", "canary.token"
BIG = 200_000


@pytest.fixture
def made() -> Made:
    return make_image(layer_of({"a": bytes(range(256)) * (BIG // 256)}), packing="none")


async def pull(
    speaker: Speaker,
    into: Path,
    *,
    rest: str = "team/app:1",
    credentials: Credentials | None = None,
    listed: Registries | None = None,
    tls: ssl.SSLContext | None = None,
    told: list[Progress] | None = None,
) -> Resolved:
    registries = listed or Registries(private={speaker.name: True})
    reference = pullable(f"{speaker.name}/{rest}")
    async with RegistryCalls(reference, registries=registries, credentials=credentials, tls=tls) as calls:
        resolved = await resolve(calls, reference)
        await download(calls, resolved, into=into, progress=None if told is None else told.append)
        return resolved


async def refusal(
    say: Say, into: Path, *, rest: str = "team/app:1", credentials: Credentials | None = None
) -> tuple[TenantryError, Speaker]:
    async with speaking(say) as speaker:
        with pytest.raises(TenantryError) as refused:
            await pull(speaker, into, rest=rest, credentials=credentials)
    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value.fields)
    for secret in (USER, PASSWORD, TOKEN):
        assert secret not in shown
    return refused.value, speaker


def layer_name(made: Made) -> str:
    return max(made.blobs, key=lambda name: len(made.blobs[name]))


async def test_a_part_that_is_something_else_is_refused(made: Made, tmp_path: Path) -> None:
    name = layer_name(made)
    swapped = bytes(len(made.blobs[name]))
    error, _ = await refusal(serve_image(made, {name: lambda _: reply(swapped)}), tmp_path)
    assert error.code == "image_digest_mismatch"


async def test_a_manifest_that_is_another_than_the_one_named_is_refused(made: Made, tmp_path: Path) -> None:
    error, _ = await refusal(serve_image(made), tmp_path, rest=f"team/app@sha256:{'0' * 64}")
    assert error.code == "image_digest_mismatch"
    index = make_index([(made, machine_platform())])
    other = make_image(layer_of({"a": b"evil"}))
    lying = serve_image(index, {made.digest: lambda _: reply(other.top, Content_Type=other.top_type)})
    error, _ = await refusal(lying, tmp_path / "2")
    assert error.code == "image_size_mismatch"


async def test_a_part_that_goes_on_beyond_its_size_is_not_kept(made: Made, tmp_path: Path) -> None:
    name = layer_name(made)
    longer = made.blobs[name] + bytes(8 << 20)
    error, _ = await refusal(serve_image(made, {name: lambda _: reply(longer)}), tmp_path)
    assert error.code == "image_size_mismatch"
    assert (tmp_path / "blobs/sha256" / name.removeprefix("sha256:")).stat().st_size <= len(made.blobs[name])


@pytest.mark.parametrize("size", [(4 << 20) + 1])
async def test_a_manifest_without_end_is_not_read_to_it(made: Made, tmp_path: Path, size: int) -> None:
    error, _ = await refusal(
        serve_image(made, {"/manifests/1": lambda _: reply(bytes(size), Content_Type=made.top_type)}), tmp_path
    )
    assert error.code == "registry_answer_invalid"


def breaking(made: Made, *, ranges: bool) -> Callable[[Asked], bytes]:
    """Say half of what is left, with the length of all of it."""
    content = made.blobs[layer_name(made)]
    times = 0

    def say(asked: Asked) -> bytes:
        nonlocal times
        times += 1
        left = content[asked.begin :] if ranges else content
        status = 206 if ranges and asked.begin else 200
        place = {"Content_Range": f"bytes {asked.begin}-{len(content) - 1}/{len(content)}"} if status == 206 else {}
        whole = times > 2
        return reply(left if whole else left[: len(left) // 2], status, length=len(left), **place)

    return say


async def test_of_a_part_that_begins_anew_nothing_is_told_to_be_gone(tmp_path: Path) -> None:
    made = make_image(layer_of({"a": bytes(8 << 20)}), packing="none")
    told: list[Progress] = []
    async with speaking(serve_image(made, {layer_name(made): breaking(made, ranges=False)})) as speaker:
        await pull(speaker, tmp_path, told=told)
    done = [each.bytes_done for each in told]
    assert done == sorted(done)
    assert len(set(done)) > 4
    assert (done[-1], told[-1].layers_done) == (told[-1].bytes_total, 1)


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_part_that_broke_off_is_taken_up_there_or_from_the_start(
    made: Made, tmp_path: Path, *, ranges: bool
) -> None:
    name = layer_name(made)
    async with speaking(serve_image(made, {name: breaking(made, ranges=ranges)})) as speaker:
        await pull(speaker, tmp_path)
    assert digest((tmp_path / "blobs/sha256" / name.removeprefix("sha256:")).read_bytes()) == name
    begun = [each.begin for each in speaker.asked if each.path.endswith(name)]
    assert len(begun) == 3
    assert begun[0] == 0 < begun[1], "what had come is kept"
    assert begun[2] > begun[1] or not ranges


async def test_another_piece_than_was_asked_for_is_not_put_in_its_place(made: Made, tmp_path: Path) -> None:
    name = layer_name(made)
    content = made.blobs[name]

    def say(asked: Asked) -> bytes:
        if not asked.begin:
            return reply(content[:1000], length=len(content))
        return reply(content[:-1000], 206, Content_Range=f"bytes 0-{len(content) - 1001}/{len(content)}")

    error, _ = await refusal(serve_image(made, {name: say}), tmp_path)
    assert error.code == "registry_answer_invalid"


async def test_one_that_breaks_off_again_and_again_is_given_up(made: Made, tmp_path: Path) -> None:
    name = layer_name(made)
    error, speaker = await refusal(serve_image(made, {name: lambda _: None}), tmp_path)
    assert error.code == "registry_unavailable"
    assert sum(path.endswith(name) for path in speaker.paths()) == 5


def guarded(made: Made, *, challenge: str, accept: str) -> Say:
    """An image for who has the token, or the password."""
    open_image = serve_image(made)

    def say(asked: Asked) -> bytes | None:
        if asked.path == "/token":
            return reply(f'{{"token": "{TOKEN}"}}'.encode())
        if asked.headers.get("authorization", "").startswith(accept):
            return open_image(asked)
        host = asked.headers["host"]
        return reply(status=401, WWW_Authenticate=challenge.replace("HOST", host))

    return say


BEARER = 'Bearer realm="http://HOST/token",service="the service",scope="repository:other/secret:pull,push"'


async def test_a_token_is_asked_for_of_the_realm_for_this_repository_alone(made: Made, tmp_path: Path) -> None:
    async with speaking(guarded(made, challenge=BEARER, accept=f"Bearer {TOKEN}")) as speaker:
        await pull(speaker, tmp_path, credentials=Credentials(USER, PASSWORD))
    (token,) = [each for each in speaker.asked if each.path == "/token"]
    assert token.query == {"scope": ["repository:team/app:pull"], "service": ["the service"]}
    assert token.headers["authorization"].startswith("Basic ")
    others = [each for each in speaker.asked if each.path != "/token"]
    assert all("Basic" not in each.headers.get("authorization", "") for each in others)
    assert speaker.paths()[:3] == ["/v2/team/app/manifests/1", "/token", "/v2/team/app/manifests/1"]


async def test_without_credentials_none_are_sent(made: Made, tmp_path: Path) -> None:
    async with speaking(guarded(made, challenge=BEARER, accept=f"Bearer {TOKEN}")) as speaker:
        await pull(speaker, tmp_path)
    assert all("Basic" not in each.headers.get("authorization", "") for each in speaker.asked)


async def test_a_name_and_password_are_sent_where_they_are_asked_for(made: Made, tmp_path: Path) -> None:
    async with speaking(guarded(made, challenge='Basic realm="here"', accept="Basic ")) as speaker:
        await pull(speaker, tmp_path, credentials=Credentials(USER, PASSWORD))
    assert "authorization" not in speaker.asked[0].headers


@pytest.mark.parametrize("challenge", [BEARER, 'Basic realm="here"', "Digest x", "", 'Bearer realm="http://[", x="'])
async def test_who_is_not_let_in_is_told_nothing_of_secrets(made: Made, tmp_path: Path, challenge: str) -> None:
    error, _ = await refusal(
        guarded(made, challenge=challenge, accept="never"), tmp_path, credentials=Credentials(USER, PASSWORD)
    )
    assert error.code in {"registry_access_denied", "registry_realm_refused"}


@pytest.mark.parametrize(
    "realm",
    ["http://ELSEWHERE/token", "file:///etc/passwd", "//", "http://u:p@HOST/token", "https://ELSEWHERE/token",
     "https://169.254.169.254/token", "https://localhost/token"],
)  # fmt: skip
async def test_a_realm_elsewhere_gets_no_password(made: Made, tmp_path: Path, realm: str) -> None:
    async with speaking(lambda _: reply(b'{"token": "x"}')) as elsewhere:
        challenge = f'Bearer realm="{realm.replace("ELSEWHERE", elsewhere.name)}"'
        error, _ = await refusal(
            guarded(made, challenge=challenge, accept="never"), tmp_path, credentials=Credentials(USER, PASSWORD)
        )
    assert error.code in {"registry_realm_refused", "address_refused"}
    assert elsewhere.asked == []


async def test_a_realm_without_tls_is_the_registrys_own_or_none(made: Made, tmp_path: Path) -> None:
    async with speaking(lambda _: reply(f'{{"token": "{TOKEN}"}}'.encode())) as elsewhere:
        say = guarded(made, challenge=f'Bearer realm="{elsewhere.url}/token"', accept=f"Bearer {TOKEN}")
        async with speaking(say) as speaker:
            listed = Registries(private={speaker.name: True, elsewhere.name: True})
            with pytest.raises(TenantryError) as refused:
                await pull(speaker, tmp_path, credentials=Credentials(USER, PASSWORD), listed=listed)
    assert refused.value.code == "registry_realm_refused"
    assert elsewhere.asked == []


async def test_a_host_that_is_listed_with_tls_is_not_asked_without(made: Made, tmp_path: Path) -> None:
    name = layer_name(made)
    async with speaking(serve_image(made)) as store:
        away = serve_image(made, {name: lambda _: reply(status=307, Location=f"{store.url}/{name}")})
        async with speaking(away) as speaker:
            listed = Registries(private={speaker.name: True, store.name: False})
            with pytest.raises(TenantryError) as refused:
                await pull(speaker, tmp_path, listed=listed)
    assert refused.value.code == "address_refused"
    assert store.asked == []


@pytest.mark.parametrize("token", ["", "a b", "a\\r\\nX-Evil: 1", "x" * 40_000, 7, None])
async def test_what_is_no_token_is_not_sent(made: Made, tmp_path: Path, token: object) -> None:
    quoted = f'"{token}"' if isinstance(token, str) else "7" if token else "null"

    def say(asked: Asked) -> bytes | None:
        if asked.path == "/token":
            return reply(f'{{"token": {quoted}}}'.encode())
        return guarded(made, challenge=BEARER, accept="never")(asked)

    error, _ = await refusal(say, tmp_path)
    assert error.code == "registry_answer_invalid"


async def test_a_redirect_is_followed_to_a_listed_host_without_what_authorizes(made: Made, tmp_path: Path) -> None:
    name = layer_name(made)
    async with speaking(serve_image(made)) as store:
        inner = guarded(made, challenge=BEARER, accept=f"Bearer {TOKEN}")

        def say(asked: Asked) -> bytes | None:
            if asked.path.endswith(name) and "authorization" in asked.headers:
                return reply(status=307, Location=f"{store.url}/elsewhere/{name}", Set_Cookie="canary=1; Path=/")
            return inner(asked)

        async with speaking(say) as speaker:
            listed = Registries(private={speaker.name: True, store.name: True})
            await pull(speaker, tmp_path, credentials=Credentials(USER, PASSWORD), listed=listed)
    (stored,) = store.asked
    assert stored.path == f"/elsewhere/{name}"
    assert not {"authorization", "cookie"} & stored.headers.keys()
    assert stored.headers["host"] == store.name


async def test_nobody_a_redirect_leads_to_says_whom_to_show_a_password(made: Made, tmp_path: Path) -> None:
    """Red once where any 401 was heeded: a store's could name a realm of its own (CVE-2020-15157)."""
    name, asked_for = layer_name(made), []

    def challenging(_: Asked) -> bytes:
        return reply(status=401, WWW_Authenticate=f'Bearer realm="{speaker.url}/token",service="s"')

    async with speaking(challenging) as store:

        def say(asked: Asked) -> bytes | None:
            asked_for.append(asked.path.partition("?")[0])
            if asked.path.endswith(name):
                return reply(status=307, Location=f"{store.url}/elsewhere/{name}")
            return serve_image(made)(asked)

        async with speaking(say) as speaker:
            listed = Registries(private={speaker.name: True, store.name: True})
            with pytest.raises(TenantryError) as refused:
                await pull(speaker, tmp_path, credentials=Credentials(USER, PASSWORD), listed=listed)
    assert refused.value.code == "registry_access_denied"
    assert "/token" not in asked_for
    assert len(store.asked) == 1


@pytest.mark.parametrize(
    "target",
    ["http://ELSEWHERE/x", "https://ELSEWHERE/x", "https://169.254.169.254/latest/meta-data/", "https://localhost/x",
     "https://[::1]/x", "https://10.0.0.1/x", "https://2130706433/x", "http://u:p@HOST/x", "https://127.0.0.1.nip.invalid/x"],
)  # fmt: skip
async def test_a_redirect_into_our_own_networks_is_not_followed(made: Made, tmp_path: Path, target: str) -> None:
    name = layer_name(made)
    async with speaking(lambda _: reply(made.blobs[name])) as elsewhere:

        def away(asked: Asked) -> bytes:
            place = target.replace("ELSEWHERE", elsewhere.name).replace("HOST", asked.headers["host"])
            return reply(status=302, Location=place)

        error, _ = await refusal(serve_image(made, {name: away}), tmp_path)
    assert error.code == ("registry_unavailable" if target.endswith("nip.invalid/x") else "address_refused")
    assert elsewhere.asked == []


@pytest.mark.parametrize("location", ["", "/v2/", "file:///etc/passwd", "gopher://x/", "http://["])
async def test_a_redirect_that_leads_nowhere_ends(made: Made, tmp_path: Path, location: str) -> None:
    name = layer_name(made)
    circle = {
        name: lambda _: reply(status=302, Location=location),
        "/v2/": lambda _: reply(status=302, Location="/v2/"),
    }
    error, speaker = await refusal(serve_image(made, circle), tmp_path)
    assert error.code in {"registry_answer_invalid", "address_refused"}
    assert len(speaker.asked) < 50


@pytest.mark.parametrize("status", [500, 502, 429, 400, 204])
async def test_a_registry_that_fails_is_unavailable(made: Made, tmp_path: Path, status: int) -> None:
    error, _ = await refusal(serve_image(made, {"/manifests/1": lambda _: reply(status=status)}), tmp_path)
    assert error.code == "registry_unavailable"


@pytest.mark.parametrize("kind", ["application/vnd.docker.distribution.manifest.v1+prettyjws", "text/html", ""])
async def test_what_is_no_manifest_is_refused(made: Made, tmp_path: Path, kind: str) -> None:
    error, _ = await refusal(
        serve_image(made, {"/manifests/1": lambda _: reply(made.top, Content_Type=kind)}), tmp_path
    )
    assert error.code == "image_manifest_malformed"


async def test_a_registry_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async with speaking(lambda _: None) as speaker:
        with pytest.raises(TenantryError) as refused:
            await pull(speaker, tmp_path)
    assert refused.value.code == "registry_unavailable"


def _serving(issued: Issued, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued.write(folder, "server"))
    return context


@pytest.mark.parametrize(("named", "trusted"), [("localhost", True), ("localhost", False), ("127.0.0.1", True)])
async def test_a_registry_shows_a_certificate_for_its_name(
    made: Made, tmp_path: Path, named: str, *, trusted: bool
) -> None:
    authority = Authority()
    trust = ssl.create_default_context(cafile=authority.write(tmp_path)) if trusted else None
    serving = _serving(authority.issue("registry", server=True, by_address=False), tmp_path)
    async with speaking(serve_image(made), tls=serving) as speaker:
        speaker.name = speaker.name.replace("127.0.0.1", named)
        listed = Registries(private={speaker.name: False})
        if named == "localhost" and trusted:
            assert (await pull(speaker, tmp_path, listed=listed, tls=trust)).digest == made.digest
            assert speaker.asked[0].headers["host"] == speaker.name
            return
        with pytest.raises(TenantryError) as refused:
            await pull(speaker, tmp_path, listed=listed, tls=trust)
        assert refused.value.code == "registry_unavailable"
        assert speaker.asked == []
