"""By which names of images a job may mean one."""

from tenantry.kit.image_references import NoReferenceError, parse_reference


def names_of(text: str) -> list[str]:
    """Give the name as it is written, without a digest behind it, and each completed as pulled images are named."""
    written = [text, text.partition("@")[0]]
    return list(dict.fromkeys([*written, *filter(None, map(_completed, written))]))


def _completed(text: str) -> str:
    try:
        return str(parse_reference(text))
    except NoReferenceError:
        return ""
