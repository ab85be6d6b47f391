"""What jobs and images refuse."""

from tenantry.foundation.errors import Conflict, Exhausted, Gone, Invalid, NotFound, Precondition, Unavailable


def job_not_found() -> NotFound:
    return NotFound("not_found", "no such job", layer="sandboxes")


def artifact_not_found() -> NotFound:
    return NotFound("not_found", "no such artifact", layer="sandboxes")


def input_not_found() -> NotFound:
    return NotFound("not_found", "no such input", layer="sandboxes")


def image_not_found() -> NotFound:
    return NotFound("not_found", "no such image", layer="sandboxes")


def image_unknown(name: str) -> Invalid:
    return Invalid(
        "image_unknown",
        f"image: {name!r} is not in this workspace: import it, or use host",
        layer="sandboxes",
        field="image",
    )


def phase_absent(at: int, phase: str) -> Invalid:
    return Invalid(
        "phase_absent",
        f"network[{at}].phase: this job has no phase {phase}: name it under phases, or leave this out",
        layer="sandboxes",
        field=f"network[{at}].phase",
    )


def secrets_in_fetch() -> Invalid:
    return Invalid(
        "fetch_has_no_secrets",
        "phases.fetch.secrets: what fetches is given no secrets: name them in run or publish",
        layer="sandboxes",
        field="phases.fetch.secrets",
    )


def phases_malformed(rule: str) -> Invalid:
    return Invalid("phases_malformed", f"phases: {rule}", layer="sandboxes", field="phases", rule=rule)


def secret_place_taken(place: str) -> Invalid:
    return Invalid(
        "secret_place_taken",
        f"secrets: {place} is given something else already: name another env or file",
        layer="sandboxes",
        field="secrets",
    )


def injection_host_invalid(host: str, reason: str) -> Invalid:
    return Invalid(
        "injection_host_invalid",
        f"secrets.inject.host: {host[:100]!r} {reason}: name the one host, without a port",
        layer="sandboxes",
        field="secrets",
    )


def injection_header_invalid(header: str) -> Invalid:
    return Invalid(
        "injection_header_invalid",
        f"secrets.inject.header: {header[:100]!r} is no header that can be set: one like X-Api-Key",
        layer="sandboxes",
        field="secrets",
    )


def injection_unconnected(name: str, host: str) -> Invalid:
    return Invalid(
        "injection_unconnected",
        f"secrets: {name} is to be injected for {host}, and the job does not ask to connect to {host}:443",
        layer="sandboxes",
        field="network",
        allow_with=(f"network: {host}:443", f"--connect {host}:443"),
    )


def secret_not_injectable(name: str, version: int) -> Invalid:
    return Invalid(
        "secret_not_injectable",
        f"secret {name}, version {version}, cannot lie in a header: it has line breaks, control characters, blanks at "
        "its ends, or more than 4096 bytes: write it anew, or give it as a variable or file",
        layer="sandboxes",
        field="secrets",
    )


def egress_authorities_unreadable(reason: str) -> Unavailable:
    return Unavailable(
        "egress_authorities_unreadable",
        f"the certificates that servers are known by cannot be read (jobs.egress_ca_file): {reason}",
        layer="sandboxes",
    )


def image_name_taken(name: str) -> Conflict:
    return Conflict("name_taken", f"name: an image {name!r} exists here: remove it first", layer="sandboxes")


def limit_exceeded(name: str, *, limit: float, wanted: float, layer: str) -> Invalid:
    return Invalid(
        "limit_exceeded",
        f"limits.{name}: {wanted:g} is more than the {limit:g} that the {layer} allows",
        layer="sandboxes",
        field=f"limits.{name}",
        limit=limit,
        current=wanted,
        limited_by=layer,
        allow_with=(f"at most {limit:g}", f"a higher limit of the {layer}"),
    )


def content_gone(*, size_bytes: int, sha256: str | None) -> Gone:
    return Gone(
        "content_gone",
        "this content is no longer kept (persistence_mode of the workspace): its size and digest remain",
        layer="sandboxes",
        size_bytes=size_bytes,
        sha256=sha256,
    )


def image_too_large(size: int, *, most: int) -> Invalid:
    return Invalid(
        "image_too_large",
        f"reference: the image has {size} bytes, and {most} are the most (server.max_upload_bytes)",
        layer="sandboxes",
        limit=most,
        current=size,
    )


def pull_timed_out(seconds: float) -> Unavailable:
    return Unavailable(
        "pull_timed_out",
        f"the image has not come within {seconds:g} seconds (images.pull_seconds): pull it again",
        layer="sandboxes",
        limit=seconds,
    )


def sandbox_not_found() -> NotFound:
    return NotFound("not_found", "no such sandbox", layer="sandboxes")


def snapshot_not_found() -> NotFound:
    return NotFound("not_found", "no such snapshot", layer="sandboxes")


def sandbox_name_taken(name: str) -> Conflict:
    return Conflict("name_taken", f"name: a sandbox {name!r} exists here: delete it first", layer="sandboxes")


def snapshot_name_taken(name: str) -> Conflict:
    return Conflict("name_taken", f"name: this sandbox has a snapshot {name!r}: delete it first", layer="sandboxes")


def too_many_snapshots(most: int) -> Conflict:
    return Conflict(
        "snapshot_limit", f"a sandbox has at most {most} snapshots: delete one first", layer="sandboxes", limit=most
    )


def sandbox_not_running(state: str) -> Conflict:
    return Conflict(
        "sandbox_not_running",
        f"the sandbox is {state}: start it, and ask again when it runs",
        layer="sandboxes",
        current=state,
        allow_with=("POST …/start?wait=30",),
    )


def sandbox_busy(state: str) -> Conflict:
    return Conflict(
        "sandbox_busy",
        f"the sandbox is {state}: wait until it is stopped, or runs",
        layer="sandboxes",
        current=state,
    )


def content_not_kept() -> Conflict:
    return Conflict(
        "content_not_kept",
        "files of this sandbox are not kept (persistence_mode of its workspace is metadata_only): set it to full, "
        "and make another sandbox",
        layer="sandboxes",
        allow_with=("persistence_mode: full, before the sandbox is created",),
    )


def nothing_kept() -> Conflict:
    return Conflict(
        "nothing_kept", "nothing of this sandbox is kept yet: start it, and stop it once it has run", layer="sandboxes"
    )


def life_too_long(*, most: float) -> Invalid:
    return Invalid(
        "life_too_long",
        f"seconds: the sandbox may live for {most:g} more seconds: stop it and start it again for more",
        layer="sandboxes",
        field="seconds",
        limit=most,
    )


def link_lost() -> Unavailable:
    return Unavailable(
        "sandbox_away",
        "the worker of this sandbox does not answer: look at the sandbox, and try again while it runs",
        layer="sandboxes",
    )


def watch_limit(most: int) -> Exhausted:
    return Exhausted(
        "watch_limit",
        f"{most} watches of this tenant are open on the machine of this sandbox: end one",
        layer="sandboxes",
        limit=most,
    )


def sandbox_version_mismatch(current: int) -> Precondition:
    return Precondition(
        "version_mismatch",
        "the sandbox has changed since it was read: read it again and repeat",
        layer="sandboxes",
        current=f'"{current}"',
    )


def port_refused(port: int, why: str) -> Conflict:
    return Conflict(
        "port_refused", f"port: nothing answers at {port} inside: {why}", layer="sandboxes", field="port", current=port
    )
