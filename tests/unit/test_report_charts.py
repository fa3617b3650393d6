"""Dots, radar and counts: what stands where."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from drenpa.report.charts import (
    Dot,
    Spoke,
    count_chart,
    dot_chart,
    radar_chart,
    symmetric_reach,
)

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</svg><script>alert(1)</script>&\"'"


def test_a_dot_right_of_the_middle_is_a_gain_and_full_only_when_told_apart() -> None:
    dots = [Dot("gain", 4.0, 1.0, 7.0), Dot("loss", -4.0, -9.0, 1.0), Dot("none", None)]
    root = ElementTree.fromstring(str(dot_chart("t", dots, reach=10)))
    gain, loss = root.findall(f"{SVG}circle")
    assert float(gain.attrib["cx"]) > float(loss.attrib["cx"])
    assert gain.attrib["fill"] == gain.attrib["stroke"]
    assert loss.attrib["fill"] == "#fff"
    assert "not known" in "".join(root.itertext())


def test_a_dot_and_its_whiskers_stay_inside_the_axis() -> None:
    root = ElementTree.fromstring(str(dot_chart("t", [Dot("x", 90.0, -90.0, 95.0)], reach=10)))
    width = float(root.attrib["width"])
    assert all(0 <= float(line.attrib["x2"]) <= width for line in root.findall(f"{SVG}line"))


def test_a_radar_of_a_full_score_lies_on_the_rim_and_a_missing_axis_breaks_it() -> None:
    axes = ("a", "b", "c", "d", "e")
    full = ElementTree.fromstring(
        str(radar_chart("t", axes, [Spoke("s", (100.0,) * 5, "#123456")]))
    )
    rim = [line for line in full.findall(f"{SVG}line") if line.attrib["stroke"] == "#123456"]
    assert len(rim) == 5 + 1  # five sides and the legend's sample
    top = min(float(line.attrib["y1"]) for line in rim)
    assert top == pytest.approx(54.0, abs=0.1)  # centre 166, radius 112
    broken = ElementTree.fromstring(
        str(radar_chart("t", axes, [Spoke("s", (100.0, None, 50.0, 50.0, 50.0), "#123456")]))
    )
    sides = [line for line in broken.findall(f"{SVG}line") if line.attrib["stroke"] == "#123456"]
    assert len(sides) == 3 + 1
    assert "b not scored" in "".join(broken.itertext())


def test_counts_are_as_long_as_they_are_many() -> None:
    rows = [
        ("foundation", [("en", 30, "#111"), ("bo", 10, "#222")]),
        ("connection", [("en", 20, "#111")]),
    ]
    root = ElementTree.fromstring(str(count_chart("t", rows)))
    bars = [
        float(r.attrib["width"]) for r in root.findall(f"{SVG}rect") if r.attrib["height"] == "12"
    ]
    assert bars[0] == pytest.approx(3 * bars[1], abs=0.2)
    assert bars[2] == pytest.approx(2 * bars[1], abs=0.2)
    assert [text for text in root.itertext() if text in ("40", "20")] == ["40", "20"]


def test_hostile_names_are_text() -> None:
    for chart in (
        dot_chart(HOSTILE, [Dot(HOSTILE, 1.0)], reach=5),
        radar_chart(HOSTILE, (HOSTILE, "b", "c"), [Spoke(HOSTILE, (1.0, 2.0, 3.0))]),
        count_chart(HOSTILE, [(HOSTILE, [(HOSTILE, 1, "#111"), ("x", 1, "#222")])]),
    ):
        root = ElementTree.fromstring(str(chart))
        assert not [node for node in root.iter() if "script" in node.tag]


def test_the_axis_around_nothing_holds_everything() -> None:
    assert symmetric_reach([-12.5, 3.0]) == 15.0
