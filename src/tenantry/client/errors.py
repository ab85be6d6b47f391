"""What a caller of the SDK may catch.

    ClientError
    ├── CredentialsError    no credentials, or ones that must not be used; nothing was sent
    ├── BadRequest          arguments that make no request; nothing was sent
    ├── ConnectionFailed    the server was not reached, or went away and did not come back within the attempts
    ├── BadAnswer           something answered that does not speak this API
    └── ApiError            the server refused: a problem document (RFC 9457)

No message and no attribute of these holds the key.
"""

from collections.abc import Mapping


class ClientError(Exception):
    """`code` is stable snake_case, `remedy` says what would help (may be empty)."""

    def __init__(self, code: str, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.code = code
        self.message = message
        self.remedy = remedy


class CredentialsError(ClientError):
    """Nothing usable to log in with."""


class BadRequest(ClientError):
    """An argument breaks a rule this side can see."""


class ConnectionFailed(ClientError):
    """Whether the request took effect is unknown unless it was a read or is sent again with its Idempotency-Key."""


class BadAnswer(ClientError):
    """The answer is no JSON, no page or no event stream where the API promises one."""


class ApiError(ClientError):
    """A refusal by the server.

    `members` is the whole problem document, so also what single codes add (`job` of a recorded denial …).
    `retry_after_seconds` is what the server asked for, None if it did not say.
    """

    def __init__(self, *, status: int, members: Mapping[str, object], retry_after_seconds: float | None = None) -> None:
        code = _text(members.get("code")) or f"http_{status}"
        detail = _text(members.get("detail")) or _text(members.get("title")) or f"the server answered {status}"
        super().__init__(code, detail)
        self.status = status
        self.members = dict(members)
        self.retry_after_seconds = retry_after_seconds
        self.detail = detail
        self.title = _text(members.get("title"))
        self.layer = _text(members.get("layer"))
        self.limit = members.get("limit")
        self.current = members.get("current")
        self.allow_with = members.get("allow_with")
        self.trace_id = _text(members.get("trace_id"))

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
