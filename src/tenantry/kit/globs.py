"""Plain globs: `*` is any text, `?` one character, nothing else is special; linear in the text for each star."""

from collections.abc import Sequence


def star_match(text: str, glob: str) -> bool:
    """Match going back to the last star only: at most len(text) * len(glob) steps."""
    at = place = mark = 0
    star = -1
    while at < len(text):
        if place < len(glob) and glob[place] == "*":
            star, mark = place, at
            place += 1
        elif place < len(glob) and glob[place] in {"?", text[at]}:
            at, place = at + 1, place + 1
        elif star >= 0:
            mark += 1
            at, place = mark, star + 1
        else:
            return False
    return all(character == "*" for character in glob[place:])


def any_match(text: str, globs: Sequence[str]) -> bool:
    return any(star_match(text, glob) for glob in globs)
