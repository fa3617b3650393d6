"""The figures of a report, as SVG text: bars with intervals, and lines over training steps.

Written by hand rather than drawn by a plotting library, so that a figure is text in the page's own
fonts: a Tibetan or Chinese label is set by the reader's browser and never becomes a row of boxes.
Every figure stands alone as a file and inside a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from drenpa.core.knowledge import Kind

FONTS = (
    "'Inter','Source Sans 3','Segoe UI','Helvetica Neue',Helvetica,Arial,'Noto Sans',"
    "'Noto Sans Tibetan','Noto Serif Tibetan',Jomolhari,Kailasa,'Microsoft Himalaya',"
    "'Noto Sans CJK SC','PingFang SC','Microsoft YaHei',sans-serif"
)
INK, QUIET, RULE = "#2b2723", "#7d756b", "#ddd6ca"
ACCENT = "#8c2f27"
MOST_POINTS = 50
KIND_COLOURS: dict[Kind, str] = {
    "foundation": "#8c2f27",
    "profession": "#c0892b",
    "metacognition": "#2f5f78",
    "connection": "#64804a",
}
KIND_DASHES: dict[Kind, str] = {
    "foundation": "",
    "profession": "6 2",
    "metacognition": "2 2",
    "connection": "7 2 2 2",
}


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart, in per cent; a value of None leaves the row empty and says so."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    colour: str = QUIET


@dataclass(frozen=True)
class Line:
    """One line of a line chart: (step, value) points in order of steps, all finite."""

    label: str
    points: tuple[tuple[float, float], ...]
    colour: str = INK
    dash: str = ""


def bar_chart(title: str, bars: Sequence[Bar], *, top: float, width: int = 440) -> Markup:
    """Draw horizontal bars from 0 to `top` per cent, each with its interval as a whisker.

    top: the right end of the axis, so that neighbouring charts share one scale.
    """
    left, right, head, pitch = _label_room(bars), 46, 30, 19
    height = head + pitch * len(bars) + 24
    room = width - left - right

    def x(value: float) -> float:
        return left + room * min(max(value, 0.0), top) / top

    bottom = head + pitch * len(bars)
    parts = [_text(0, 14, title, size=13, weight=600)]
    for tick in _ticks(0.0, top, 4):
        parts.append(_line(x(tick), head - 4, x(tick), bottom, RULE))
        parts.append(_text(x(tick), bottom + 15, _number(tick), size=10, fill=QUIET, at="middle"))
    for index, bar in enumerate(bars):
        middle = head + pitch * index + pitch / 2
        parts.append(_text(left - 8, middle + 4, _short(bar.label), size=11.5, at="end"))
        if bar.value is None:
            parts.append(_text(left + 6, middle + 4, "not scored", size=11, fill=QUIET))
            continue
        parts.append(
            f'<rect x="{left}" y="{middle - 6:.1f}" width="{max(x(bar.value) - left, 0.8):.1f}" '
            f'height="12" rx="1" fill="{bar.colour}" fill-opacity="0.85"/>'
        )
        end = x(bar.value)
        if bar.low is not None and bar.high is not None:
            parts += _whisker(x(bar.low), x(bar.high), middle)
            end = max(end, x(bar.high))
        parts.append(_text(end + 6, middle + 4, f"{bar.value:.1f}", size=11))
    described = "; ".join(_spoken(bar) for bar in bars)
    return _svg(width, height, f"{title}. {described}", parts)


def line_chart(title: str, lines: Sequence[Line], *, from_zero: bool = False) -> Markup:
    """Draw one measure over training steps; many points are averaged into at most
    `MOST_POINTS`, so that the course shows through the noise of single steps.

    raises: ValueError when no line has a point.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        raise ValueError(f"the chart '{title}' has no points; leave it out")
    width, height = 300, 150
    left, right, head, foot = 40, 4, 26, 22
    xs = [x for line in lines for x, _ in line.points]
    first, last = min(xs), max(max(xs), min(xs) + 1)
    lines = [_thinned(line) for line in lines]
    ys = [y for line in lines for _, y in line.points]
    low, high = _padded(min([0.0, *ys] if from_zero else ys), max(ys))

    def place(x: float, y: float) -> str:
        across = left + (width - left - right) * (x - first) / (last - first)
        down = head + (height - head - foot) * (high - y) / (high - low)
        return f"{across:.1f} {down:.1f}"

    parts = [_text(0, 13, title, size=12, weight=600)]
    for tick in _ticks(low, high, 3):
        down = head + (height - head - foot) * (high - tick) / (high - low)
        parts.append(_line(left, down, width - right, down, RULE))
        parts.append(_text(left - 5, down + 3.5, _number(tick), size=9.5, fill=QUIET, at="end"))
    parts.append(_text(left, height - 6, _number(first), size=9.5, fill=QUIET))
    parts.append(_text(width - right, height - 6, _number(last), size=9.5, fill=QUIET, at="end"))
    for line in lines:
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        if len(line.points) == 1:
            cx, cy = place(*line.points[0]).split()
            parts.append(f'<circle cx="{cx}" cy="{cy}" r="2.2" fill="{line.colour}"/>')
            continue
        path = "L".join(place(x, y) for x, y in line.points)
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{line.colour}" stroke-width="1.5" '
            f'stroke-linejoin="round"{dash}/>'
        )
    described = "; ".join(
        f"{line.label} from {_number(line.points[0][1])} to {_number(line.points[-1][1])}"
        for line in lines
    )
    spoken = f"{title} over steps {_number(first)} to {_number(last)}. {described}"
    return _svg(width, height, spoken, parts)


@dataclass(frozen=True)
class Point:
    """One point of a reliability plot, in shares: what was said, what came of it."""

    confidence: float
    right: float
    low: float | None = None
    high: float | None = None


def reliability_chart(title: str, points: Sequence[Point]) -> Markup:
    """Draw how often a scorer is right against how sure it says it is, from one half to certainty;
    on the diagonal it is as right as it says."""
    width, height = 300, 300
    left, right, head, foot = 40, 12, 30, 40

    def x(value: float) -> float:
        return left + (width - left - right) * (min(max(value, 0.5), 1.0) - 0.5) / 0.5

    def y(value: float) -> float:
        return height - foot - (height - head - foot) * min(max(value, 0.0), 1.0)

    parts = [_text(0, 14, title, size=13, weight=600)]
    for tick in _ticks(0.0, 1.0, 5):
        parts.append(_line(left, y(tick), width - right, y(tick), RULE))
        parts.append(_text(left - 5, y(tick) + 3.5, _number(tick), size=9.5, fill=QUIET, at="end"))
    for tick in _ticks(0.5, 1.0, 5):
        parts.append(
            _text(x(tick), height - foot + 15, _number(tick), size=9.5, fill=QUIET, at="middle")
        )
    parts.append(_line(x(0.5), y(0.5), x(1.0), y(1.0), QUIET, 1.0))
    middle = (left + width - right) / 2
    parts.append(_text(middle, height - 8, "confidence", size=10, fill=QUIET, at="middle"))
    for point in points:
        across = x(point.confidence)
        if point.low is not None and point.high is not None:
            parts.append(_line(across, y(point.low), across, y(point.high), INK, 1.1))
        parts.append(
            f'<circle cx="{across:.1f}" cy="{y(point.right):.1f}" r="3.2" fill="{ACCENT}"/>'
        )
    described = "; ".join(
        f"right {point.right:.2f} at confidence {point.confidence:.2f}" for point in points
    )
    return _svg(width, height, f"{title}. {described}", parts)


@dataclass(frozen=True)
class Dot:
    """One row of a dot plot, in points; told apart from 0 it is drawn full, else hollow."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Spoke:
    """One polygon of a radar: a value in per cent for each axis, None where nothing is known."""

    label: str
    values: tuple[float | None, ...]
    colour: str = INK


def dot_chart(title: str, dots: Sequence[Dot], *, reach: float, width: int = 440) -> Markup:
    """Draw differences around 0 with their intervals, on an axis from −reach to +reach points."""
    left, right, head, pitch = _label_room([Bar(dot.label, None) for dot in dots]), 52, 30, 19
    bottom = head + pitch * len(dots)
    room = width - left - right

    def x(value: float) -> float:
        return left + room * (min(max(value, -reach), reach) + reach) / (2 * reach)

    parts = [_text(0, 14, title, size=13, weight=600)]
    for tick in _ticks(-reach, reach, 4):
        strong = abs(tick) < 1e-9
        parts.append(
            _line(
                x(tick), head - 4, x(tick), bottom, QUIET if strong else RULE, 1 if strong else 0.8
            )
        )
        parts.append(_text(x(tick), bottom + 15, _signed(tick), size=10, fill=QUIET, at="middle"))
    for index, dot in enumerate(dots):
        middle = head + pitch * index + pitch / 2
        parts.append(_text(left - 8, middle + 4, _short(dot.label), size=11.5, at="end"))
        if dot.value is None:
            parts.append(_text(x(0) + 6, middle + 4, "not known", size=11, fill=QUIET))
            continue
        if dot.low is not None and dot.high is not None:
            parts += _whisker(x(dot.low), x(dot.high), middle)
        colour = ACCENT if dot.value < 0 else KIND_COLOURS["connection"]
        fill = colour if dot.told_apart else "#fff"
        parts.append(
            f'<circle cx="{x(dot.value):.1f}" cy="{middle:.1f}" r="4" fill="{fill}" '
            f'stroke="{colour}" stroke-width="1.4"/>'
        )
        parts.append(_text(width - right + 8, middle + 4, _signed(dot.value), size=11))
    described = "; ".join(
        f"{dot.label} not known"
        if dot.value is None
        else f"{dot.label} {dot.value:+.1f}"
        + (
            f" ({dot.low:+.1f} to {dot.high:+.1f})"
            if dot.low is not None and dot.high is not None
            else ""
        )
        for dot in dots
    )
    return _svg(width, bottom + 24, f"{title}. {described}", parts)


def radar_chart(title: str, axes: Sequence[str], spokes: Sequence[Spoke]) -> Markup:
    """Draw each strategy as a polygon over the dimensions, 0 at the centre and 100 at the rim.

    An axis without a value breaks the polygon's line there. Areas say nothing: only where the line
    crosses an axis is a score.
    """
    width, height, radius = 440, 330, 112
    middle_x, middle_y = width / 2, 30 + radius + 24

    def place(axis: int, value: float) -> tuple[float, float]:
        angle = 2 * math.pi * axis / len(axes) - math.pi / 2
        return (
            middle_x + radius * value / 100 * math.cos(angle),
            middle_y + radius * value / 100 * math.sin(angle),
        )

    parts = [_text(0, 14, title, size=13, weight=600)]
    for ring in (25, 50, 75, 100):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(a, ring) for a in range(len(axes))))
        parts.append(f'<path d="M{path}Z" fill="none" stroke="{RULE}" stroke-width="0.8"/>')
        parts.append(_text(middle_x + 3, place(0, ring)[1] + 10, str(ring), size=9, fill=QUIET))
    for axis, name in enumerate(axes):
        x, y = place(axis, 100)
        parts.append(_line(middle_x, middle_y, x, y, RULE))
        label_x, label_y = place(axis, 111)
        at = "middle" if abs(label_x - middle_x) < 8 else "start" if label_x > middle_x else "end"
        parts.append(_text(label_x, label_y + 4, name, size=11.5, at=at))
    for spoke in spokes:
        for start, end in zip(range(len(axes)), [*range(1, len(axes)), 0], strict=True):
            one, other = spoke.values[start], spoke.values[end]
            if one is not None and other is not None:
                ends = (*place(start, one), *place(end, other))
                parts.append(_line(*ends, spoke.colour, 1.8))
    legend = 6.0
    for spoke in spokes:
        parts.append(_line(legend, height - 9, legend + 16, height - 9, spoke.colour, 2.2))
        parts.append(_text(legend + 20, height - 5, _short(spoke.label, 14), size=10.5))
        legend += 30 + 6.4 * len(_short(spoke.label, 14))
    described = "; ".join(
        f"{spoke.label}: "
        + ", ".join(
            f"{name} {'not scored' if value is None else f'{value:.1f}'}"
            for name, value in zip(axes, spoke.values, strict=True)
        )
        for spoke in spokes
    )
    return _svg(round(max(width, legend)), height, f"{title}. {described}", parts)


def count_chart(title: str, rows: Sequence[tuple[str, Sequence[tuple[str, int, str]]]]) -> Markup:
    """Draw counts as stacked bars: (label, (part, count, colour) …) a row."""
    width, left, right, head, pitch = 440, 16, 46, 30, 19
    left += round(6.6 * max((len(_short(label)) for label, _ in rows), default=0))
    most = max((sum(count for _, count, _ in parts) for _, parts in rows), default=0) or 1
    drawn = [_text(0, 14, title, size=13, weight=600)]
    for index, (label, counted) in enumerate(rows):
        middle = head + pitch * index + pitch / 2
        drawn.append(_text(left - 8, middle + 4, _short(label), size=11.5, at="end"))
        start = float(left)
        for _, count, colour in counted:
            length = (width - left - right) * count / most
            drawn.append(
                f'<rect x="{start:.1f}" y="{middle - 6:.1f}" width="{length:.1f}" height="12" '
                f'fill="{colour}" fill-opacity="0.85"/>'
            )
            start += length
        total = sum(count for _, count, _ in counted)
        drawn.append(_text(start + 6, middle + 4, str(total), size=11))
    names = list(
        dict.fromkeys((name, colour) for _, counted in rows for name, _, colour in counted)
    )
    bottom, along = head + pitch * len(rows) + 8, 6.0
    for name, colour in names if len(names) > 1 else ():
        drawn.append(f'<rect x="{along:.1f}" y="{bottom}" width="10" height="10" fill="{colour}"/>')
        drawn.append(_text(along + 14, bottom + 9, _short(name, 14), size=10.5, fill=QUIET))
        along += 26 + 6.4 * len(_short(name, 14))
    described = "; ".join(
        f"{label}: " + ", ".join(f"{name} {count}" for name, count, _ in counted)
        for label, counted in rows
    )
    return _svg(width, bottom + 16, f"{title}. {described}", drawn)


def symmetric_reach(ends: Sequence[float]) -> float:
    """The end of an axis around 0 that holds all values: a multiple of five, at least 5.

    >>> symmetric_reach([-3.2, 8.9]), symmetric_reach([])
    (10.0, 5.0)
    """
    return max(5.0, 5.0 * math.ceil(max((abs(end) for end in ends), default=0.0) / 5))


def line_sample(colour: str, dash: str) -> Markup:
    """Draw a short line, for a legend."""
    pattern = f' stroke-dasharray="{dash}"' if dash else ""
    return Markup(  # noqa: S704 - numbers and colours of ours
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 30 8" aria-hidden="true">'
        f'<path d="M0 4H30" stroke="{colour}" stroke-width="2"{pattern}/></svg>'
    )


def strategy_colours(count: int) -> list[str]:
    """Shades from pale stone to ink for the strategies in their order, the last in the accent.

    >>> strategy_colours(2)
    ['#b9b0a2', '#8c2f27']
    """
    pale, dark = (0xB9, 0xB0, 0xA2), (0x4A, 0x45, 0x3F)
    shades = []
    for index in range(count - 1):
        share = index / max(count - 2, 1)
        mixed = [round(a + (b - a) * share) for a, b in zip(pale, dark, strict=True)]
        shades.append("#" + "".join(f"{part:02x}" for part in mixed))
    return [*shades, ACCENT] if count else []


def axis_top(highs: Sequence[float]) -> float:
    """The end of a per-cent axis that holds all values: a multiple of ten, at least 20.

    >>> axis_top([31.0, 12.0]), axis_top([]), axis_top([99.0])
    (40.0, 20.0, 100.0)
    """
    return min(100.0, max(20.0, 10.0 * math.ceil(max(highs, default=0.0) / 10 + 0.3)))


def _whisker(low: float, high: float, middle: float) -> list[str]:
    return [
        _line(low, middle, high, middle, INK, 1.1),
        _line(low, middle - 3, low, middle + 3, INK, 1.1),
        _line(high, middle - 3, high, middle + 3, INK, 1.1),
    ]


def _thinned(line: Line, limit: int = MOST_POINTS) -> Line:
    if len(line.points) <= limit:
        return line
    size = math.ceil(len(line.points) / limit)
    groups = [line.points[i : i + size] for i in range(0, len(line.points), size)]
    means = tuple(
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    )
    return Line(line.label, means, line.colour, line.dash)


def _padded(low: float, high: float) -> tuple[float, float]:
    """A little air around the values; a flat line gets an axis too."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        air = max(abs(high) * 0.5, 0.5)
        return low - air, high + air
    air = 0.06 * (high - low)
    return (low if low == 0 else low - air), high + air


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers within [low, high], about `wanted` of them."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    start = math.ceil(low / step - 1e-9)
    stop = math.floor(high / step + 1e-9)
    return [index * step for index in range(start, stop + 1)]


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def _signed(value: float) -> str:
    text = f"{value:+.1f}".removesuffix(".0")
    return "0" if float(text) == 0 else text.replace("-", "−")


def _label_room(bars: Sequence[Bar]) -> int:
    """Pixels for the longest label."""
    return 16 + round(6.6 * max((len(_short(bar.label)) for bar in bars), default=0))


def _short(label: str, limit: int = 24) -> str:
    return label if len(label) <= limit else label[: limit - 1] + "…"


def _spoken(bar: Bar) -> str:
    if bar.value is None:
        return f"{bar.label} not scored"
    if bar.low is None or bar.high is None:
        return f"{bar.label} {bar.value:.1f}"
    return f"{bar.label} {bar.value:.1f} ({bar.low:.1f} to {bar.high:.1f})"


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 0.8) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{stroke}" stroke-width="{width}"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    fill: str = INK,
    weight: int = 400,
    at: str = "start",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" font-weight="{weight}" '
        f'text-anchor="{at}">{escape(text)}</text>'
    )


def _svg(width: int, height: int, described: str, parts: Sequence[str]) -> Markup:
    body = "\n".join(parts)
    return Markup(  # noqa: S704 - every text in it has been escaped above
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="{escape(FONTS)}">'
        f"<title>{escape(described)}</title>\n{body}\n</svg>"
    )
