"""The one tree of errors.

    TenantryError(kind, code, message, **fields)
    ├── Invalid           bad input; fields: field, rule                HTTP 422 (400 when unreadable)
    ├── Unauthenticated   no or unusable credential                     HTTP 401
    ├── Denied            a rule says no; fields: allow_with            HTTP 403
    ├── NotFound          absent, or another tenant's: never told apart HTTP 404
    ├── Conflict          against the present state                     HTTP 409
    ├── Gone              existed, its content is no longer kept        HTTP 410
    ├── Precondition      If-Match names an older version               HTTP 412
    ├── WrongRegion       another region's process must be asked        HTTP 421
    ├── Exhausted         over a rate or quota; fields: limit, current  HTTP 429
    ├── Unavailable       a part is down; retry is safe                 HTTP 503
    └── Fault             ours: a bug or a broken installation          HTTP 500

An interface maps `kind` (never the message) to its own status; `code` is stable and documented.
"""

from enum import StrEnum
from typing import ClassVar


class ErrorKind(StrEnum):
    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    GONE = "gone"
    PRECONDITION = "precondition"
    WRONG_REGION = "wrong_region"
    EXHAUSTED = "exhausted"
    UNAVAILABLE = "unavailable"
    FAULT = "fault"


class TenantryError(Exception):
    """Base of every error the product raises on purpose.

    `code` is stable snake_case; `layer` names who refused (`guard`, `access`, `jail` …); `fields` are extra members
    of the problem document and must hold nothing secret.
    """

    kind: ClassVar[ErrorKind] = ErrorKind.FAULT

    def __init__(self, code: str, message: str, *, layer: str = "", **fields: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.layer = layer
        self.fields = fields


class Invalid(TenantryError):
    kind = ErrorKind.INVALID


class Unauthenticated(TenantryError):
    kind = ErrorKind.UNAUTHENTICATED


class Denied(TenantryError):
    kind = ErrorKind.DENIED


class NotFound(TenantryError):
    kind = ErrorKind.NOT_FOUND


class Conflict(TenantryError):
    kind = ErrorKind.CONFLICT


class Gone(TenantryError):
    kind = ErrorKind.GONE


class Precondition(TenantryError):
    kind = ErrorKind.PRECONDITION


class WrongRegion(TenantryError):
    kind = ErrorKind.WRONG_REGION


class Exhausted(TenantryError):
    kind = ErrorKind.EXHAUSTED


class Unavailable(TenantryError):
    kind = ErrorKind.UNAVAILABLE


class Fault(TenantryError):
    kind = ErrorKind.FAULT
