"""Settings of images: the registries they come from."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from tenantry.foundation.limit_settings import Frozen
from tenantry.kit.image_references import canonical_registry

ANY_REGISTRY: Final = "*"
PLAIN: Final = "http://"
"""Before the name of a registry that is asked without TLS."""


def _registry_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(ANY_REGISTRY if name == ANY_REGISTRY else _registry_name(name) for name in names)


def _private_names(names: tuple[str, ...]) -> tuple[str, ...]:
    parted = ((PLAIN if name.startswith(PLAIN) else "", name.removeprefix(PLAIN)) for name in names)
    return tuple(f"{scheme}{_registry_name(name)}" for scheme, name in parted)


def _registry_name(text: str) -> str:
    name = canonical_registry(text)
    if name is None:
        raise ValueError(f"{text!r} is no registry: write it as in names of images, registry.example.com:5000")
    return name


class ImageSettings(Frozen):
    """Images from registries. What is neither public nor private here is not pulled from."""

    registries: Annotated[tuple[str, ...], AfterValidator(_registry_names)] = ()
    """Registries on the public internet, `["docker.io", "ghcr.io"]`; `*` is all of them."""
    private_registries: Annotated[tuple[str, ...], AfterValidator(_private_names)] = ()
    """Registries that may lie in private networks and on this machine; `http://127.0.0.1:5000` is asked without TLS."""
    pull_seconds: float = Field(default=600.0, ge=1.0, le=3600.0)
    """How long a pull may take; its request waits for it."""
