"""The programs of `job run`: a command, perhaps with one that fetches before it, or a file that names them all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tenantry.client.errors import BadRequest
from tenantry.client.phase_types import JobPhase, JobPhases
from tenantry.client.secret_types import SecretUse
from tenantry.client.types import Connection


def connection(text: str, *, option: str = "--connect") -> Connection:
    """Read `HOST:PORT`; an IPv6 address stands in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise BadRequest("connection_malformed", f"{option} {text} names no host and port", remedy="HOST:PORT")
    return Connection(host=host, port=int(port))


def programs(
    words: Sequence[str] | None,
    *,
    file: Path | None,
    fetch: str | None,
    fetch_connect: Sequence[str] | None,
    env: Mapping[str, str] | None,
    secrets: Sequence[SecretUse],
    connect: Sequence[str] | None,
) -> dict[str, Any]:
    """Say what is run in the words of a job's body; raises BadRequest for options that do not go together."""
    if file is not None:
        if words or fetch or fetch_connect or env or secrets or connect:
            raise BadRequest("options_conflict", "--phases names commands, variables, secrets and connections itself")
        return {"phases": _read(file)}
    if not words:
        raise BadRequest("command_missing", "there is nothing to run", remedy="a command after --, or --phases FILE")
    network = [connection(text) for text in connect or ()]
    if fetch is None:
        if fetch_connect:
            raise BadRequest("options_conflict", "--fetch-connect is of --fetch, which is not there")
        return {"command": words, "env": env or None, "network": network or None, "secrets": list(secrets) or None}
    before = JobPhase(command=["sh", "-c", fetch])
    if fetch_connect:
        before["network"] = [connection(text, option="--fetch-connect") for text in fetch_connect]
    run = JobPhase(command=list(words))
    if env:
        run["env"] = dict(env)
    if network:
        run["network"] = network
    if secrets:
        run["secrets"] = list(secrets)
    return {"phases": JobPhases(fetch=before, run=run)}


def _read(file: Path) -> JobPhases:
    from tenantry.kit.strict_yaml import NotStrictYamlError, parse_yaml

    try:
        value = parse_yaml(file.read_bytes()).value
    except OSError as error:
        raise BadRequest("file_unreadable", f"{file}: {error.strerror}") from None
    except NotStrictYamlError as error:
        raise BadRequest("phases_unreadable", f"{file.name}: {error}", remedy="mend the file") from None
    if not isinstance(value, dict) or "run" not in value:
        raise BadRequest("phases_unreadable", f"{file.name}: must be a mapping with `run` in it", remedy="run: …")
    return cast("JobPhases", value)
