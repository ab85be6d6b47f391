import math

import pytest

from tenantry.engines.jail.errors import SpecInvalid
from tenantry.engines.jail.exec_types import ExecSpec
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


def test_what_is_kept_has_no_command_and_what_is_not_has_one() -> None:
    assert Spec(image=IMAGE, keep=True).command == ()
    with pytest.raises(SpecInvalid):
        Spec(image=IMAGE)
    with pytest.raises(SpecInvalid):
        Spec(image=IMAGE, keep=True, command=("true",))


@pytest.mark.parametrize(
    "fields",
    [
        {"command": ()},
        {"command": ("a\0b",)},
        {"env": {"A=B": "x"}},
        {"env": {"A": "x\0"}},
        {"workdir": "relative"},
        {"workdir": "/a\0"},
        {"timeout_seconds": 0},
        {"timeout_seconds": math.nan},
        {"timeout_seconds": math.inf},
        {"output_bytes": -1},
    ],
)
def test_a_program_for_a_living_one_keeps_the_same_rules(fields: dict[str, object]) -> None:
    with pytest.raises(SpecInvalid):
        ExecSpec(**{"command": ("true",)} | fields)  # type: ignore[arg-type]


def test_values_of_its_environment_are_in_no_repr() -> None:
    assert "hunter2" not in repr(ExecSpec(command=("true",), env={"SECRET": "hunter2"}))
