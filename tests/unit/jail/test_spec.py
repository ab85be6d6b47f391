import math

import pytest

from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.types import ImageRoot, InputFile, Limits, Network, Spec

IMAGE = ImageRoot(path=__import__("pathlib").Path("/nowhere"), digest="sha256:" + "0" * 64)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", ".", "..", "a\0b", "x" * 256, "a/" * 600, "\udfff"],
)
def test_an_input_stays_below_inputs(path: str) -> None:
    with pytest.raises(SpecInvalid):
        InputFile(path, b"")


@pytest.mark.parametrize("path", ["a", "a/b/c.txt", ".hidden", "..a", "ünïcode", "a b"])
def test_an_ordinary_input_is_taken(path: str) -> None:
    assert InputFile(path, b"").path == path


def test_a_network_names_ports() -> None:
    assert Network(tcp_ports=frozenset({1, 65535})).listened == {1, 80, 443, 65535}
    for ports in ({0}, {65536}, {-1}, {True}, set(range(1, 70))):
        with pytest.raises(SpecInvalid):
            Network(tcp_ports=frozenset(ports))


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf, 1e308, True])
@pytest.mark.parametrize(
    "field", ["cpus", "memory_mib", "pids", "timeout_seconds", "disk_mib", "tmp_mib", "open_files"]
)
def test_a_limit_is_a_sensible_number(field: str, value: float) -> None:
    with pytest.raises(SpecInvalid) as refused:
        Limits(**{field: value})  # type: ignore[arg-type]
    assert refused.value.fields["field"] == f"limits.{field}"


@pytest.mark.parametrize(
    "fields",
    [
        {"command": ()},
        {"command": ("",)},
        {"command": ("a\0b",)},
        {"command": ("a",) * 5000},
        {"command": ("a" * 200_000,)},
        {"env": {"A=B": "x"}},
        {"env": {"": "x"}},
        {"env": {"A": "x\0y"}},
        {"env": {f"V{n}": "" for n in range(1025)}},
        {"env": {"A": "x" * (2 << 20)}},
        {"workdir": "relative"},
        {"inputs": (InputFile("a", b""), InputFile("a", b""))},
        {"inputs": (InputFile("a", bytes(17 << 20)),), "limits": Limits(memory_mib=16)},
    ],
)
def test_a_spec_that_breaks_a_rule_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(SpecInvalid):
        Spec(**{"image": IMAGE, "command": ("true",)} | fields)  # type: ignore[arg-type]


def test_secrets_are_not_in_what_a_spec_shows_of_itself() -> None:
    spec = Spec(image=IMAGE, command=("true",), env={"TOKEN": "canary"}, inputs=(InputFile("a", b"canary"),))
    assert "canary" not in repr(spec)
    assert "canary" not in repr(spec.inputs) + str(InputFile("a", b"canary"))
