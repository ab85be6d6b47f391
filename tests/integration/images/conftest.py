"""An installation that pulls from a registry of these tests alone."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest
from tests.conftest import Installation, MakeTenant, running_installation, tenants_of
from tests.integration.images.stalling import StallingRegistry, stalling_registry
from tests.integration.sandboxes.ground import Ground
from tests.integration.sandboxes.test_images import shell_root
from tests.oci import Made, layer_of, make_image, push
from tests.registry import DockerRegistry, running_registry

MakeGround = Callable[..., Ground]


@pytest.fixture(scope="package")
def registry() -> Iterator[DockerRegistry]:
    with running_registry() as started:
        yield started


@pytest.fixture(scope="package")
def shell(registry: DockerRegistry) -> Made:
    files = {name: content for name, content in shell_root().items() if isinstance(content, bytes)}
    made = make_image(layer_of(files))
    push(registry.url, "team/shell", made, "1", "moving")
    return made


@pytest.fixture(scope="package")
def silent() -> Iterator[str]:
    """A registry that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(scope="package")
def stalling() -> Iterator[StallingRegistry]:
    with stalling_registry() as started:
        yield started


@pytest.fixture(scope="package")
def installation(
    tmp_path_factory: pytest.TempPathFactory, registry: DockerRegistry, silent: str, stalling: StallingRegistry
) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("pulling") / "home"
    private = [registry.url, f"http://{silent}", stalling.url]
    listed = {"PRIVATE_REGISTRIES": json.dumps(private), "REGISTRIES": '["public.invalid"]'}
    variables = {f"TENANTRY_IMAGES__{name}": value for name, value in listed.items()}
    variables["TENANTRY_IMAGES__PULL_SECONDS"] = "8"
    variables["TENANTRY_SERVE_REGIONS"] = '["us"]'
    variables["TENANTRY_SERVER__MAX_UPLOAD_BYTES"] = "4000000"
    with running_installation(home, verify=True, **variables) as started:
        yield started


@pytest.fixture(scope="package")
def make_tenant(installation: Installation, strategy: str) -> MakeTenant:
    return tenants_of(installation, strategy)


@pytest.fixture
def make_ground(make_tenant: MakeTenant) -> MakeGround:
    """Make a workspace in a tenant of its own; keywords are the workspace's settings."""

    def make(*, plan: str = "enterprise", **settings: object) -> Ground:
        tenant = make_tenant(plan=plan)
        workspace = tenant.workspace("dev", settings=settings)
        return Ground(tenant, workspace, tenant.as_role("workspace-admin", workspace))

    return make
