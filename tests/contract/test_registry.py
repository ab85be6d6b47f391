"""Pulling from a real registry: by tag, by digest, for this machine, resumed, and only what was meant."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.oci import Made, layer_of, make_image, make_index, push
from tests.registry import DockerRegistry, running_registry

from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.oci import machine_platform
from tenantry.engines.jail.registries import ReferenceInvalid, Registries, RegistryDenied, pullable
from tenantry.engines.jail.registry import Progress, Resolved, download, resolve
from tenantry.engines.jail.registry_calls import RegistryCalls
from tenantry.engines.jail.types import ImageRoot
from tenantry.foundation.errors import Denied

OTHER = ("linux", "s390x")


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with running_registry() as started:
        yield started


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture(scope="module")
def tiny(registry: DockerRegistry) -> Made:
    made = make_image(layer_of({"a": b"1" * 100_000, "b": b"2"}), layer_of({"a": b"new", ".wh.b": b""}))
    push(registry.url, "team/tiny", made, "1", "latest")
    return made


@asynccontextmanager
async def found(text: str, registries: Registries) -> AsyncIterator[tuple[RegistryCalls, Resolved]]:
    reference = pullable(text)
    async with RegistryCalls(reference, registries=registries) as calls:
        yield calls, await resolve(calls, reference)


async def pull(store: ImageStore, registry: DockerRegistry, rest: str, told: list[Progress] | None = None) -> ImageRoot:
    listed = Registries(private={registry.name: True})
    async with found(f"{registry.name}/{rest}", listed) as (calls, resolved):
        with store.receiving() as folder:
            await download(calls, resolved, into=folder, progress=None if told is None else told.append)
            return store.import_oci_layout(folder, name=rest)


@pytest.mark.parametrize("rest", ["team/tiny:1", "team/tiny", "team/tiny@{digest}", "team/tiny:other@{digest}"])
async def test_an_image_is_pulled_by_tag_and_by_digest(
    registry: DockerRegistry, tiny: Made, store: ImageStore, tmp_path: Path, rest: str
) -> None:
    told: list[Progress] = []
    image = await pull(store, registry, rest.format(digest=tiny.digest), told)
    assert (image.digest, dict(image.env)) == (tiny.digest, {"FROM_IMAGE": "yes"})
    assert (image.path / "a").read_bytes() == b"new"
    assert not (image.path / "b").exists()
    assert list((tmp_path / "images/.incoming").iterdir()) == []
    total = sum(map(len, tiny.blobs.values()))
    assert told[-1] == Progress(layers_done=2, layers_total=2, bytes_done=total, bytes_total=total)
    for numbers in ([each.layers_done for each in told], [each.bytes_done for each in told]):
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("docker", [False, True])
async def test_of_several_machines_ours_is_pulled_and_no_other(
    registry: DockerRegistry, store: ImageStore, *, docker: bool
) -> None:
    ours = make_image(layer_of({"whose": b"ours"}), docker=docker)
    theirs = make_image(layer_of({"whose": b"theirs"}), docker=docker, platform=OTHER)
    index = make_index([(theirs, OTHER), (ours, machine_platform())], docker=docker)
    push(registry.url, "team/many", index, f"of-{docker}")
    image = await pull(store, registry, f"team/many:of-{docker}")
    assert (image.path / "whose").read_bytes() == b"ours"
    assert image.digest == index.digest
    assert (await pull(store, registry, f"team/many@{index.digest}")).digest == index.digest


async def test_the_same_image_has_one_digest_whichever_way_it_came(
    registry: DockerRegistry, tiny: Made, store: ImageStore, tmp_path: Path
) -> None:
    pulled = await pull(store, registry, "team/tiny:1")
    async with found(f"{registry.name}/team/tiny:1", Registries(private={registry.name: True})) as (calls, resolved):
        await download(calls, resolved, into=tmp_path / "layout")
    assert store.import_oci_layout(tmp_path / "layout") == pulled
    assert pulled.digest == tiny.digest


@pytest.mark.parametrize("rest", ["team/absent:1", "team/tiny:absent", f"team/tiny@sha256:{'0' * 64}"])
async def test_what_is_not_there_is_said_to_be_absent(
    registry: DockerRegistry, tiny: Made, store: ImageStore, rest: str
) -> None:
    assert tiny.digest
    with pytest.raises(ReferenceInvalid) as refused:
        await pull(store, registry, rest)
    assert refused.value.code == "image_not_in_registry"


async def test_a_private_registry_is_pulled_from_only_where_it_is_listed_as_private(
    registry: DockerRegistry, tiny: Made
) -> None:
    text = f"{registry.name}/team/tiny:1"
    async with found(text, Registries(private={registry.name: True})) as (_, resolved):
        assert resolved.digest == tiny.digest
    for listed in (Registries(), Registries(public=frozenset({"docker.io"})), Registries(private={"127.0.0.1": True})):
        with pytest.raises(RegistryDenied) as unlisted:
            RegistryCalls(pullable(text), registries=listed)
        assert unlisted.value.code == "registry_not_allowed"
        assert "images.registries" in str(unlisted.value.fields["allow_with"])
    for listed in (Registries(public=frozenset({registry.name})), Registries(public=frozenset({"*"}))):
        with pytest.raises(Denied) as refused:
            async with found(text, listed):
                pass
        assert refused.value.code == "address_refused"


async def test_the_name_of_this_machine_is_no_way_around_the_list(registry: DockerRegistry, tiny: Made) -> None:
    port = registry.name.partition(":")[2]
    assert tiny.digest
    listed = Registries(public=frozenset({"*"}), private={registry.name: True})
    for host in ("localhost", "2130706433", "127.1", "0x7f000001", "127.0.0.2", "0.0.0.0"):  # noqa: S104 - a name
        with pytest.raises(Denied) as refused:
            async with found(f"{host}:{port}/team/tiny:1", listed):
                pass
        assert refused.value.code == "address_refused", host
