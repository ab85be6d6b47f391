"""A plot of lines over time as SVG, written by hand: axes, ticks, legend, and a line to compare with."""

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 860, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 60, 60
_COLOURS = ("#1b6ca8", "#c8553d", "#4f772d", "#7b4b94")
_FONT = 'font-family="sans-serif" font-size="14" fill="#222"'

Points = Sequence[tuple[float, float]]


def plot(title: str, *, lines: Mapping[str, Points], x: str, y: str, level: tuple[str, float]) -> str:
    """Draw each line from x = 0 and y from 0 to 1 (shown as per cent); `level` is a dashed line across."""
    end = max(point[0] for points in lines.values() for point in points)
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(px: float, py: float) -> tuple[float, float]:
        return _LEFT + px / end * inner_width, _TOP + (1 - py) * inner_height

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
            f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        ),
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 24, title, anchor="start", bold=True),
    ]
    for number in range(5):
        part = number / 4
        left, height = at(0, part)
        parts += [_line(left, height, _WIDTH - _RIGHT, height, "#ddd"), _text(left - 8, height + 5, f"{part:.0%}")]
        across, base = at(end * part, 0)
        parts += [
            _line(across, base, across, base + 5, "#222"),
            _text(across, base + 22, f"{end * part:g}", anchor="end" if number == 4 else "middle"),
        ]
    parts += [
        _line(*at(0, 0), *at(end, 0), "#222"),
        _line(*at(0, 0), *at(0, 1), "#222"),
        _text(_LEFT + inner_width / 2, _HEIGHT - 14, x, anchor="middle"),
        (
            f'<text transform="translate(18 {_TOP + inner_height / 2}) rotate(-90)" text-anchor="middle" {_FONT}>'
            f"{escape(y)}</text>"
        ),
    ]
    entries = []
    for colour, (name, points) in zip(_COLOURS, lines.items(), strict=False):
        way = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(*point) for point in points))
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        entries.append((name, colour, ""))
    parts.append(_line(*at(0, level[1]), *at(end, level[1]), "#222", dash="6 4"))
    entries.append((level[0], "#222", "6 4"))
    return "\n".join([*parts, *_legend(entries), "</svg>", ""])


def _legend(entries: Sequence[tuple[str, str, str]]) -> list[str]:
    parts = []
    for number, (name, colour, dash) in enumerate(entries):
        left = _LEFT + number * 250
        parts += [
            _line(left, 42, left + 28, 42, colour, dash=dash, width=2),
            _text(left + 36, 47, name, anchor="start"),
        ]
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dash: str = "", width: float = 1) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{dashed}/>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "end", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight} {_FONT}>{escape(text)}</text>'
