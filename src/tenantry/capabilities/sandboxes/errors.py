"""What jobs and images refuse."""

from tenantry.foundation.errors import Conflict, Gone, Invalid, NotFound, Unavailable


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
