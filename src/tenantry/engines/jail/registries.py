"""Which registries may be pulled from, how each is reached, and what is said where one may not be or does not answer.

RegistryDenied(Denied)           not among those that may be pulled from, or it lets us not in; fields: allow_with
RegistryUnavailable(Unavailable) it does not answer, or not as registries do; a retry is safe
ReferenceInvalid(Invalid)        no reference that could be pulled, or nothing is there; fields: field
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tenantry.foundation.errors import Denied, Invalid, Unavailable
from tenantry.kit.image_references import HUB, NoReferenceError, Reference, parse_reference

if TYPE_CHECKING:
    import httpx

ANY: Final = "*"
_HUB_ADDRESS: Final = "registry-1.docker.io"
_PORTS: Final = {"https": 443, "http": 80}
_MOST_PORT: Final = 65535


class RegistryDenied(Denied):
    def __init__(self, code: str, message: str, *, allow_with: tuple[str, ...] = ()) -> None:
        super().__init__(code, message, layer="jail", allow_with=allow_with)


class RegistryUnavailable(Unavailable):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, layer="jail")


class ReferenceInvalid(Invalid):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, f"reference: {message}", layer="jail", field="reference")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password for one registry."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Registries:
    """By canonical name, as `parse_reference` gives it. `*` in `public` is every registry of the public internet.

    `private` may lie in private networks; the value says whether it is asked without TLS.
    """

    public: frozenset[str] = frozenset()
    private: Mapping[str, bool] = field(default_factory=dict)

    def require(self, registry: str) -> None:
        """Raise RegistryDenied `registry_not_allowed` for one that is not listed."""
        if not self.public & {registry, ANY} and registry not in self.private:
            raise RegistryDenied(
                "registry_not_allowed",
                f"{registry} is not among the registries that this installation pulls from",
                allow_with=(f"images.registries with {registry!r}, set by the operator", "an upload of the image"),
            )

    def address(self, registry: str) -> str:
        """Tell the address of a registry's API, without a path."""
        host = _HUB_ADDRESS if registry == HUB else registry
        return f"{'http' if self.private.get(registry) else 'https'}://{host}"

    def reach(self, url: "httpx.URL") -> tuple[bool, bool]:
        """Tell whether an address may be private, and without TLS: what the operator has listed as such, no other."""
        default = url.port is None or url.port == _PORTS.get(url.scheme)
        host = url.raw_host.decode("ascii")
        name = host if default else f"{host}:{url.port}"
        return name in self.private, bool(self.private.get(name))


def pullable(text: str) -> Reference:
    """Read a reference that names a registry's image; raises ReferenceInvalid `image_reference_invalid`."""
    try:
        reference = parse_reference(text)
    except NoReferenceError as error:
        raise ReferenceInvalid("image_reference_invalid", str(error)) from None
    port = reference.registry.partition(":")[2]
    if port and not 0 < int(port) <= _MOST_PORT:
        raise ReferenceInvalid("image_reference_invalid", "there is no such port")
    if reference.digest and not reference.digest.startswith("sha256:"):
        raise ReferenceInvalid("image_reference_invalid", "only digests of SHA-256 can be pulled")
    return reference
