"""References that look like others lead to one registry, or to none; what lists registries is read strictly."""

import pytest
from pydantic import ValidationError

from tenantry.capabilities.sandboxes.service.image_names import names_of
from tenantry.capabilities.sandboxes.service.image_pulls import registries_of
from tenantry.engines.jail.registries import ReferenceInvalid, Registries, RegistryDenied, pullable
from tenantry.foundation.image_settings import ImageSettings

PRIVATE = Registries(public=frozenset({"docker.io", "ghcr.io"}), private={"registry.corp:5000": True, "corp.io": False})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("python:3.12", "https://registry-1.docker.io"),
        ("docker.io/python", "https://registry-1.docker.io"),
        ("index.docker.io/library/python", "https://registry-1.docker.io"),
        ("GHCR.IO/a/b", "https://ghcr.io"),
        ("ghcr.io:443/a/b", "https://ghcr.io"),
        ("registry.corp:5000/a", "http://registry.corp:5000"),
        ("corp.io/a", "https://corp.io"),
    ],
)
def test_a_registry_that_is_listed_is_known_however_it_is_written(text: str, address: str) -> None:
    registry = pullable(text).registry
    PRIVATE.require(registry)
    assert PRIVATE.address(registry) == address


@pytest.mark.parametrize(
    "text",
    ["ghcr.io.evil.example/a", "evil.example/ghcr.io/a", "ghcr.io:8443/a", "registry.corp/a", "registry.corp:443/a",
     "corp.io:80/a", "localhost/a", "127.0.0.1/a", "xghcr.io/a"],
)  # fmt: skip
def test_one_that_only_looks_like_it_is_not_listed(text: str) -> None:
    with pytest.raises(RegistryDenied):
        PRIVATE.require(pullable(text).registry)


@pytest.mark.parametrize(
    "text",
    ["", " ghcr.io/a", "ghcr.io/a\n", "ghcr.io/A", "ghcr.io/../a", "ghcr.io//a", "ghcr.io/a@sha256:short",
     "g\u04bbcr.io/a",
     "user:pass@ghcr.io/a", "https://ghcr.io/a", "ghcr.io/a?x", "ghcr.io/a#x", "ghcr.io/a%2f..", "ghcr.io:0/a",
     "ghcr.io:99999/a", "[::1]:5000/a", f"ghcr.io/a@sha512:{'0' * 128}", "ghcr.io\\@evil.example/a", "-a/b", "a" * 64],
)  # fmt: skip
def test_what_is_no_reference_is_pulled_from_nowhere(text: str) -> None:
    with pytest.raises(ReferenceInvalid) as refused:
        pullable(text)
    assert refused.value.code == "image_reference_invalid"


def test_settings_say_which_registries_there_are() -> None:
    settings = ImageSettings(
        registries=("DOCKER.io", "ghcr.io:443", "*"), private_registries=("http://127.0.0.1:5000", "corp.io")
    )
    found = registries_of(settings)
    assert found.public == {"docker.io", "ghcr.io", "*"}
    assert found.private == {"127.0.0.1:5000": True, "corp.io": False}
    assert registries_of(ImageSettings()) == Registries()
    for wrong in ("https://ghcr.io", "ghcr.io/team", "", "ghcr"):
        with pytest.raises(ValidationError):
            ImageSettings(registries=(wrong,))
    with pytest.raises(ValidationError):
        ImageSettings(private_registries=("*",))


def test_a_job_finds_a_pulled_image_by_its_short_name_too() -> None:
    assert names_of("python:3.12") == ["python:3.12", "docker.io/library/python:3.12"]
    digest = f"sha256:{'0' * 64}"
    assert names_of(f"ghcr.io/a@{digest}") == [f"ghcr.io/a@{digest}", "ghcr.io/a", "ghcr.io/a:latest"]
    assert names_of("host") == ["host", "docker.io/library/host:latest"]
    assert names_of("no reference") == ["no reference"]
