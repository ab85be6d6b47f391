"""The corpus of bypasses: every way around a rule that we know of, with what is harmless beside it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry.engines.rules.documents import from_value
from tenantry.engines.rules.types import Effect, Kind, Phase, Verdict

CORPUS = Path(__file__).parent / "corpus"
KINDS = {"images": Kind.IMAGE, "commands": Kind.COMMAND, "hosts": Kind.NETWORK}
FILES: dict[str, Any] = {name: yaml.safe_load((CORPUS / f"{name}.yaml").read_text()) for name in KINDS}
BUNDLES = {
    (name, policy): from_value(kind, value)
    for name, kind in KINDS.items()
    for policy, value in FILES[name]["policies"].items()
}
ENTRIES = [
    pytest.param(name, entry, id=f"{name}-{number}")
    for name, file in FILES.items()
    for number, entry in enumerate(file["entries"])
]


def judged(name: str, entry: dict[str, Any]) -> Verdict:
    """A command is a list of words or a text for `sh -c`; a connection is `phase host port`."""
    bundle, subject = BUNDLES[name, entry["policy"]], entry["subject"]
    if name == "images":
        return bundle.check_image(subject)
    if name == "commands":
        return bundle.check_command(subject if isinstance(subject, list) else ["sh", "-c", subject])
    assert bundle.network is not None
    phase, host, port = subject
    return bundle.network.decide(Phase(phase), host, port)


@pytest.mark.parametrize(("name", "entry"), ENTRIES)
def test_an_entry_is_judged_as_it_says(name: str, entry: dict[str, Any]) -> None:
    verdict = judged(name, entry)
    denied = verdict.decisive
    assert verdict.effect is Effect(entry["verdict"]), f"{entry['subject']!r}: {entry['why']}; {verdict}"
    assert (denied.rule if denied else "").startswith(entry.get("rule", "")), f"{entry['subject']!r}: {denied}"


def test_the_corpus_is_large_and_has_both_sides_in_each_file() -> None:
    assert sum(len(file["entries"]) for file in FILES.values()) >= 300
    for name, file in FILES.items():
        entries = file["entries"]
        assert {entry["verdict"] for entry in entries} == {"allow", "deny"}, name
        assert all(entry["why"] for entry in entries), name
        subjects = [(repr(entry["subject"]), entry["policy"]) for entry in entries]
        assert len(subjects) == len(set(subjects)), name


def test_every_denial_of_the_corpus_says_what_would_allow_it() -> None:
    for name, file in FILES.items():
        for entry in file["entries"]:
            denied = judged(name, entry).decisive
            assert denied is None or (denied.message.endswith(".") and denied.remedy.endswith(".")), entry
