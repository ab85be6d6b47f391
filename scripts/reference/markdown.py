"""What pages have in common: a heading that says where the page comes from, and tables."""

from collections.abc import Iterable, Sequence


def page(title: str, introduction: str, *sections: str) -> str:
    """Put a page together; `introduction` and sections are Markdown."""
    origin = "<!-- Generated from the code by `make docs`: change the code, not this page. -->"
    return "\n\n".join([f"# {title}", origin, introduction.strip(), *(section.strip() for section in sections)]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell(text) for text in line)} |" for line in lines)


def cell(text: str) -> str:
    """One line; `<` outside of code would begin a tag."""
    if "`" not in text:
        text = text.replace("<", "&lt;")
    return " ".join(text.replace("|", "\\|").split())


def code(text: str) -> str:
    return f"`{text}`" if text else ""
