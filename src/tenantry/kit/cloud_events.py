"""CloudEvents 1.0.2 in their JSON format, one or many to a body."""

from typing import Any, Final

BATCH: Final = "application/cloudevents-batch+json"


def cloud_event(
    *, event_id: str, source: str, kind: str, subject: str, time: str, data: dict[str, Any], **extensions: str
) -> dict[str, Any]:
    """Tell an event; source and id together are unique, and a repetition's are the same. `time` is RFC 3339.

    Names of extensions are small letters and digits.
    """
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": kind,
        "subject": subject,
        "time": time,
        **extensions,
        "datacontenttype": "application/json",
        "data": data,
    }
