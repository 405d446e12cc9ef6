"""Charts of the report as SVG in HTML: light, sharp at any size, in the colours of the page, and their text is text.

Nothing here imports matplotlib. Colours are classes of stages/lib/reporting/report.css, which has one set for light and one for
dark pages. Names come from data, so everything is escaped (markupsafe).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

WIDTH, HEIGHT = 360, 230  # of a chart with axes, in its own units; it grows to the width of its column
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 12, 34
NUM_COLOURS = 7


class Row(NamedTuple):
    """One line of a chart of values: a point with its interval, or a bar from where the one before ended."""

    name: str
    text: str
    value: float
    lower: float | None = None  # of the interval, or where the bar begins
    upper: float | None = None
    colour: str = "c0"
    note: str | Markup = ""  # under the name


class Line(NamedTuple):
    """One curve; `kept` is the index of the point that is marked."""

    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dotted: bool = False
    kept: int | None = None


def intervals(rows: Sequence[Row], mark: float | None = None) -> Markup:
    """Points with their intervals, one row each, on a common axis; `mark` is a value that is dashed in each of them."""
    place = _placed([mark, *(each for row in rows for each in (row.value, row.lower, row.upper))])
    parts = []
    for row in rows:
        bar = Markup('<line class="axis" x1="0" x2="100%" y1="8" y2="8"/>')
        if mark is not None:
            bar += Markup('<line class="zero" x1="{0}%" x2="{0}%" y1="-8" y2="24"/>').format(place(mark))
        if row.lower is not None and row.upper is not None:
            bar += Markup('<line class="bar {}" x1="{}%" x2="{}%" y1="8" y2="8"/>').format(
                row.colour, place(row.lower), place(row.upper)
            )
        bar += Markup('<circle class="{}" cx="{}%" cy="8" r="5"/>').format(row.colour, place(row.value))
        parts.append(_row(row, bar))
    return Markup('<div class="rows">{}</div>').format(Markup("").join(parts))


def waterfall(rows: Sequence[Row]) -> Markup:
    """What each step added: a bar from 0 to the first value, then bars from `lower` to `value`, all on one axis from 0."""
    most = max((max(row.value, row.lower or 0) for row in rows), default=1) or 1
    parts = []
    for row in rows:
        start, end = sorted((row.lower or 0, row.value))
        width = max(0.4, 100 * (end - start) / most)
        bar = Markup('<rect class="{}" x="{:.2f}%" width="{:.2f}%" y="2" height="12"/>').format(
            row.colour, min(100 * start / most, 99.6), width
        )
        parts.append(_row(row, bar))
    return Markup('<div class="rows">{}</div>').format(Markup("").join(parts))


def _row(row: Row, bar: Markup) -> Markup:
    note = Markup("<small>{}</small>").format(row.note) if row.note else ""
    drawn = Markup('<svg height="16" role="img" aria-label="{}: {}">{}</svg>').format(row.name, row.text, bar)
    return Markup('<div class="row"><span class="name">{}{}</span>{}<span class="value">{}</span></div>').format(
        row.name, note, drawn, row.text
    )


def lines(title: str, curves: Sequence[Line], *, x: str, percent: bool, diagonal: bool = False) -> Markup:
    """A chart of curves over numbers from 1 on, such as epochs; or of points over 0 to 1 with their diagonal.

    Args:
        x: title of the horizontal axis.
        percent: whether the values are fractions, to be shown in percent.
    """
    known = [(a, b) for curve in curves for a, b in zip(curve.x, curve.y, strict=True) if b == b]
    if not known:
        return Markup("")
    low_x, high_x = (0.0, 1.0) if diagonal else (min(a for a, _ in known), max(a for a, _ in known))
    low, high = (0.0, 1.0) if diagonal else (min(b for _, b in known), max(b for _, b in known))
    high, high_x = high if high > low else low + 1, high_x if high_x > low_x else low_x + 1

    def at(a: float, b: float) -> str:
        across = LEFT + (WIDTH - LEFT - RIGHT) * (a - low_x) / (high_x - low_x)
        return f"{across:.1f},{TOP + (HEIGHT - TOP - BOTTOM) * (high - b) / (high - low):.1f}"

    parts = []
    for step in range(5):
        value = low + (high - low) * step / 4
        down = at(low_x, value).split(",")[1]
        parts.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, down, down))
        text = f"{100 * value:.0f}" if percent else f"{value:.2f}"
        parts.append(Markup('<text x="{}" y="{}" dy="4" text-anchor="end">{}</text>').format(LEFT - 6, down, text))
    for value in _ticks(low_x, high_x, whole=not diagonal):
        across = at(value, low).split(",")[0]
        text = f"{100 * value:.0f}" if diagonal else f"{value:g}"
        parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(across, HEIGHT - BOTTOM + 15, text))
    parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format((LEFT + WIDTH) / 2, HEIGHT - 3, x))
    if diagonal:
        (a, b), (c, d) = (at(0, 0).split(","), at(1, 1).split(","))
        parts.append(Markup('<line class="zero" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(a, b, c, d))
    for curve in curves:
        path = [at(a, b) for a, b in zip(curve.x, curve.y, strict=True) if b == b]
        kind = f"line {curve.colour}{' dotted' if curve.dotted else ''}"
        parts.append(Markup('<polyline class="{}" points="{}"/>').format(kind, " ".join(path)))
        marked = range(len(curve.x)) if diagonal else [] if curve.kept is None else [curve.kept]
        for index in marked:
            across, down = at(curve.x[index], curve.y[index]).split(",")
            parts.append(Markup('<circle class="{}" cx="{}" cy="{}" r="4"/>').format(curve.colour, across, down))
    drawn = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(parts)
    )
    return Markup("<figure><figcaption>{}</figcaption>{}</figure>").format(title, drawn)


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Names with their colours."""
    parts = [Markup('<span><i class="{}"></i>{}</span>').format(colour, name) for name, colour in entries]
    return Markup('<p class="legend">{}</p>').format(Markup(" ").join(parts))


def heat(corner: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> Markup:
    """A table whose cells are shaded.

    Args:
        rows: name, and for each column a text and how strong its shade is, 0 to 1.
    """
    head = Markup("").join(Markup('<th class="n" scope="col">{}</th>').format(name) for name in columns)
    body = []
    for name, cells in rows:
        drawn = [
            Markup('<td class="n heat" style="--s:{:.0f}%">{}</td>').format(100 * strength, text) for text, strength in cells
        ]
        body.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(name, Markup("").join(drawn)))
    table = '<div class="wide"><table><tr><th>{}</th>{}</tr>{}</table></div>'
    return Markup(table).format(corner, head, Markup("").join(body))  # noqa: S704 (our own)


def table(head: Sequence[str], rows: Sequence[Sequence[str | Markup]], *, text: int = 1) -> Markup:
    """A table; the first `text` columns are text, the others numbers."""
    kinds = ["" if index < text else ' class="n"' for index in range(len(head))]
    top = Markup("").join(Markup(f"<th{kind}>{{}}</th>").format(name) for kind, name in zip(kinds, head, strict=True))  # noqa: S704
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(Markup(f"<td{kind}>{{}}</td>").format(cell) for kind, cell in zip(kinds, row, strict=True))  # noqa: S704
        )
        for row in rows
    )
    return Markup('<div class="wide"><table><tr>{}</tr>{}</table></div>').format(top, body)


def colour(index: int) -> str:
    """The class of the n-th colour."""
    return f"c{index % NUM_COLOURS}"


def _placed(values: Sequence[float | None]) -> Callable[[float], str]:
    """Where values lie on an axis that holds them all, in percent."""
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    margin = (high - low or abs(high) or 1) * 0.06

    def place(value: float) -> str:
        return f"{100 * (value - low + margin) / (high - low + 2 * margin):.2f}"

    return place


def _ticks(low: float, high: float, *, whole: bool) -> list[float]:
    """At most 7 round places from low to high."""
    if not whole:
        return [low + (high - low) * step / 4 for step in range(5)]
    step = max(1, -(-int(high - low) // 6))
    return [float(value) for value in range(int(low), int(high) + 1, step)]
