"""What a container image's config says that counts here: variables, directory, platform, digests of unpacked layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenantry.engines.jail.errors import ImageInvalid


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """`os` and `architecture` are empty where the config names none."""

    env: Mapping[str, str]
    workdir: str
    diff_ids: tuple[object, ...]
    os: str
    architecture: str


def read_config(config: object) -> ImageConfig:
    """Read a parsed config; raises ImageInvalid `image_archive_malformed`. What is not understood is left out."""
    if not isinstance(config, dict):
        raise ImageInvalid("image_archive_malformed", "the config is no object")
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list):
        raise ImageInvalid("image_archive_malformed", "the config lacks rootfs.diff_ids")
    found = config.get("config")
    settings: dict[str, Any] = found if isinstance(found, dict) else {}
    return ImageConfig(
        env=_environment(settings.get("Env")),
        workdir=str(settings.get("WorkingDir") or "/"),
        diff_ids=tuple(diff_ids),
        os=str(config.get("os") or ""),
        architecture=str(config.get("architecture") or ""),
    )


def _environment(lines: object) -> dict[str, str]:
    given = lines if isinstance(lines, list) else []
    pairs = (line.partition("=") for line in given if isinstance(line, str) and "\0" not in line)
    return {name: value for name, _, value in pairs if name}
