from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tests.verdict_rows import training_artefact, verdict, verdicts, verdicts_artefact

from drenpa.config import ReportConfig
from drenpa.core.artefacts import Artefact, point
from drenpa.core.errors import ArtefactError
from drenpa.core.records import Verdict
from drenpa.core.text import shown
from drenpa.report.build import plan_report, print_summary, write_report
from drenpa.report.examples import choose_examples, examples_text
from drenpa.report.notes import caution_notes, comparison_notes, critic_notes, headline, run_facts
from drenpa.report.page import PageContent, page_html
from drenpa.report.table import make_table

HOSTILE = (
    "</p></style><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}{% raw %}"
    "<!-- [bold]x[/bold] \x1b[2J \u202eright to left\x00 &amp; ' \""
)
KNOWN_TAGS = frozenset(
    re.findall(
        r"\w+",
        "html head meta title style body header h1 h2 h3 p dl dt dd div span table thead tbody tr "
        "th td b u ul li a sup figure figcaption svg rect line text path circle article details "
        "summary code em",
    )
)


class Outline(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(rows: Sequence[Verdict], title: str = "t") -> str:
    table, facts = make_table(rows, resamples=20), run_facts(rows)
    return page_html(
        PageContent(
            title=title,
            table=table,
            facts=facts,
            cautions=caution_notes(table, facts, rows, {}),
            trainings=(),
            critics={},
            examples=choose_examples(rows, 3),
            sources=(),
            resamples=20,
        )
    )


def hostile_rows(text: str) -> list[Verdict]:
    """Verdicts with the text wherever a model, a judge, a question or a name may put it."""
    return [
        verdict(
            strategy,
            item,
            score,
            question=f"q {text}",
            reference=text,
            model_answer=text,
            thoughts=text,
            language=text,
            judge=f"j {text}"[:200],
            model=text,
        )
        for strategy, score in (("base", 0.5), (f"x {text}", 1.5))
        for item in ("a", "b")
    ]


def test_hostile_text_stays_text_wherever_it_stands() -> None:
    outline = Outline(page_of(hostile_rows(HOSTILE), title=HOSTILE))
    assert set(outline.tags) <= KNOWN_TAGS
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    assert shown(HOSTILE) in "".join(outline.text)
    assert "\x1b" not in "".join(outline.text)
    assert "\u202e" not in "".join(outline.text)


PIECES = st.sampled_from(["<", ">", "</p>", "<b>", "<i/>", '"', "'", "&lt;", "{{", "-->", "<!--"])
WILD = st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"])), min_size=1)


@settings(max_examples=25)
@given(WILD.map("".join).filter(str.strip))
def test_no_text_changes_the_structure_of_the_page(text: str) -> None:
    harmless = Outline(page_of(hostile_rows("a")))
    assert Outline(page_of(hostile_rows(text))).tags == harmless.tags


def test_the_page_asks_nothing_of_the_network_and_forbids_itself_scripts() -> None:
    page = page_of(verdicts())
    outline = Outline(page)
    addresses = [value for name, value in outline.attributes if name in ("src", "href", "action")]
    tables = {"table.csv", "table.json", "table.md", "table.tex"}
    assert set(addresses) == {*tables, "overall.json", "readings.json", "items.html"}
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|<script|<link|<iframe", page)
    hosts = set(re.findall(r"https?://[^\"'\s<]+", page))
    assert hosts == {"http://www.w3.org/2000/svg"}  # the name of SVG, no address


def test_every_opened_element_is_closed() -> None:
    page = page_of(verdicts())
    for tag in KNOWN_TAGS - {"meta", "rect", "line", "path", "circle"}:
        assert len(re.findall(rf"<{tag}[\s>]", page)) == page.count(f"</{tag}>"), tag


def test_tibetan_and_chinese_answers_carry_their_language_and_fonts() -> None:
    rows = [
        verdict(strategy, "a", score, language="bo", model_answer="བོད་ཡིག")
        for strategy, score in (("base", 0.5), ("sft", 1.0))
    ]
    page = page_of(rows)
    assert 'lang="bo" dir="auto">བོད་ཡིག</p>' in page
    style = page[page.index("<style>") : page.index("</style>")]
    for font in ("Noto Serif Tibetan", "Jomolhari", "Kailasa", "Noto Serif CJK SC"):
        assert font in style


def test_one_strategy_alone_has_a_page_without_differences() -> None:
    page = page_of([verdict(item=item) for item in "ab"])
    assert "<h2>Differences</h2>" not in page
    assert "<h2>Answers before and after</h2>" not in page
    assert "base reaches 50.0 per cent of the highest possible score." in page


def test_nothing_scored_is_said_and_not_drawn_as_zero() -> None:
    page = page_of([verdict(item=item, score={}, strategy=s) for item in "ab" for s in ("x", "y")])
    assert "No answer of y was scored in every dimension." in page
    assert "4 of 4 answers lack a score" in page
    assert "not scored" in page
    assert "<rect" not in page


def test_a_gain_that_may_be_luck_is_called_that() -> None:
    ups = [1.0, -0.9, 0.8, -0.7, 0.6, -0.5]
    rows = [verdict("base", f"i{n}", 1.0) for n in range(6)]
    rows += [verdict("sft", f"i{n}", 1.0 + up) for n, up in enumerate(ups)]
    table = make_table(rows, resamples=400)
    assert "do not tell apart from no change" in headline(table, "tiny")
    assert comparison_notes(table, "tiny")[0].startswith("sft is not told apart from base: +2.5")


def test_the_headline_names_what_beats_the_one_before_and_what_does_not() -> None:
    told = headline(make_table(verdicts(gain=0.6), resamples=100), "tiny")
    assert "From base to final the score goes from 15.8 to 45.8 per cent: +30.0 points" in told
    assert told.endswith("final beats the one before; sft does not.")


def test_cautions_count_what_is_missing_cut_off_and_too_few() -> None:
    rows = verdicts()
    rows[0] = verdict("base", "foundation-0", {"safety": 2.0}, unscored="the endpoint was silent")
    rows[1] = rows[1].model_copy(update={"finish": "length"})
    table, facts = make_table(rows, resamples=50), run_facts(rows)
    notes = "\n".join(caution_notes(table, facts, rows, {"a made-up judge": "It throws dice."}))
    assert "The judge, a made-up judge: It throws dice." in notes
    assert "1 of 72 answers lack a score" in notes
    assert "the endpoint was silent (1)" in notes
    assert "cut off by the length limit: base 4\u00a0%." in notes  # 1 of 24
    assert "One seed (1)" in notes
    assert "come from 24 sources" in notes


def test_several_seeds_are_named() -> None:
    rows = verdicts(seed=3) + verdicts(seed=1)
    table, facts = make_table(rows, resamples=50), run_facts(rows)
    assert any(note.startswith("2 seeds (1, 3)") for note in caution_notes(table, facts, rows, {}))


def test_examples_run_from_the_largest_gain_to_the_largest_loss() -> None:
    changes = {"a": 0.2, "b": 1.0, "c": -0.6, "d": 0.0, "e": 0.4}
    rows = [verdict("base", item, 1.0) for item in changes]
    rows += [verdict("sft", item, 1.0 + change) for item, change in changes.items()]
    chosen = choose_examples(rows, 3)
    assert [(e.item, e.change, e.reason) for e in chosen] == [
        ("b", 50.0, "the largest gain of 5 questions"),
        ("a", 10.0, "place 3 of 5 questions, by gain"),
        ("c", -30.0, "the largest loss of 5 questions"),
    ]
    assert [e.item for e in choose_examples(rows, 1)] == ["a"]
    assert len(choose_examples(rows, 99)) == 5


def test_an_example_needs_both_answers_scored_in_full() -> None:
    rows = [verdict("base", "a", 1.0), verdict("sft", "a", {"safety": 2.0})]
    rows += [verdict("base", "b", 1.0), verdict("sft", "b", 1.5)]
    assert [example.item for example in choose_examples(rows, 3)] == ["b"]


def test_examples_keep_the_answers_as_they_were_given() -> None:
    text = examples_text(choose_examples(hostile_rows(HOSTILE), 1))
    assert "\\u001b" in text  # in JSON, not on the screen


def test_the_critics_gap_and_use_are_told() -> None:
    from drenpa.report.curves import Accuracy
    from drenpa.report.gap import Meter, Points

    rows = [
        Accuracy("gold", 0.93, 0.9, 0.96, 100, 0.8),
        Accuracy("own", 0.55, 0.48, 0.62, 100, 0.1),
        Accuracy("shuffled", 0.56, 0.5, 0.6, 100, None),
    ]
    meter = Meter("all", 55.0, 10.0, 100, Points(38.0, 30.0, 46.0), Points(-1.0, None, None))
    part = Meter("foundation", 55.0, 10.0, 50, Points(7.0, 1.0, 9.0), Points(7.0, 1.0, 9.0))
    assert critic_notes(rows, [meter, part]) == [
        "Gap (gold − own): +38.0 points; small is good.",
        "Use (own − shuffled): −1.0 points; near 0 the score ignores the critique.",
        "With its own critiques it is not told apart from tossing a coin.",
    ]
    assert critic_notes(rows[:1], []) == []


@pytest.fixture
def made(tmp_path: Path) -> Artefact:
    found = [
        verdicts_artefact(tmp_path, [r for r in verdicts() if r.strategy == name], name)
        for name in ("base", "sft", "final")
    ]
    lines = [{"step": n, "reward": n / 9, "reward_foundation": n / 8, "kl": 0.0} for n in range(9)]
    row = {"accuracy": 0.8, "low": 0.7, "high": 0.9, "pairs": 40}
    training = {
        "critic": training_artefact(tmp_path, "critic", lines, {"gold": row, "own": row}),
        "reinforce-grpo": training_artefact(tmp_path, "grpo", lines),
    }
    config = ReportConfig(resamples=100, paper_columns=True)
    return write_report(found, training, config, name="tiny", root=tmp_path)


def test_a_report_is_one_folder_of_tables_figures_and_a_page(made: Artefact) -> None:
    names = {path.relative_to(made.path).as_posix() for path in made.path.rglob("*.*")}
    assert {
        "index.html",
        *(f"table.{ending}" for ending in ("json", "csv", "md", "tex")),
        *("overall.json", "examples.json", "manifest.json"),
        *("figures/bars-all.svg", "figures/bars-foundation.svg"),
        *("figures/training-critic-reward.svg", "figures/training-reinforce-grpo-kl.svg"),
    } <= names
    for figure in made.path.glob("figures/*.svg"):
        ElementTree.parse(figure)
    page = (made.path / "index.html").read_text(encoding="utf-8")
    for words in ("<h2>The critic</h2>", "<td>47.7</td>", "It throws dice.", "base-"):
        assert words in page
    assert set(Outline(page).tags) <= KNOWN_TAGS
    assert made.summary["questions"] == dict.fromkeys(
        ("foundation", "profession", "metacognition", "connection"), 6
    )


def test_the_papers_wrong_means_are_marked_where_they_are_shown(tmp_path: Path) -> None:
    rows = [verdict(name, item) for name in ("base", "memory") for item in "ab"]
    config = ReportConfig(resamples=20, paper_columns=True)
    found = [verdicts_artefact(tmp_path, rows)]
    made = write_report(found, {}, config, name="r", root=tmp_path)
    page = (made.path / "index.html").read_text(encoding="utf-8")
    assert page.count("&thinsp;†</span>") == 1
    assert "67.83 is printed, but its five cells give 68.41" in page
    assert "63.41" not in page  # of grpo, which this report does not show


def test_two_models_have_tables_and_figures_of_their_own(tmp_path: Path) -> None:
    rows = verdicts(items=3) + verdicts(items=3, gain=0.0, model="org/other model")
    found = [verdicts_artefact(tmp_path, rows)]
    made = write_report(found, {}, ReportConfig(resamples=20), name="r", root=tmp_path)
    figures = {path.name for path in (made.path / "figures").iterdir()}
    assert {"bars-tiny-all.svg", "bars-org-other-model-all.svg"} <= figures
    text = "".join(Outline((made.path / "index.html").read_text(encoding="utf-8")).text)
    assert "tiny: From base to final" in text
    assert "org/other model: From base to final" in text
    assert text.count("What beats what: ") == 2
    assert set(made.summary["headline"]) == {"tiny", "org/other model"}


def test_a_stages_own_warning_reaches_the_page(made: Artefact) -> None:
    assert "grpo: grpo was made up" in (made.path / "index.html").read_text(encoding="utf-8")


def test_the_same_inputs_make_the_same_bytes(made: Artefact, tmp_path: Path) -> None:
    found = [
        verdicts_artefact(tmp_path, [r for r in verdicts() if r.strategy == name], name)
        for name in ("base", "sft", "final")
    ]
    config = ReportConfig(resamples=100)
    first, second = (
        write_report(found, {}, config, name=name, root=tmp_path) for name in ("one", "two")
    )
    assert first.path != second.path
    assert first.digest == second.digest


def test_the_order_of_the_benchmarks_is_part_of_the_plan(tmp_path: Path) -> None:
    one = verdicts_artefact(tmp_path, [verdict("base")], "one")
    two = verdicts_artefact(tmp_path, [verdict("sft")], "two")
    keys = {
        plan_report(order, {}, ReportConfig(), name="r", root=tmp_path).key
        for order in ([one, two], [two, one])
    }
    assert len(keys) == 2


def test_a_wrong_artefact_is_refused_before_any_work(tmp_path: Path) -> None:
    rows = verdicts_artefact(tmp_path, [verdict()])
    policy = training_artefact(tmp_path, "grpo", [])
    with pytest.raises(ArtefactError, match="is a policy, not verdicts"):
        plan_report([policy], {}, ReportConfig(), name="r", root=tmp_path)
    with pytest.raises(ArtefactError, match="under 'sft' a policy or a critic is needed"):
        plan_report([rows], {"sft": rows}, ReportConfig(), name="r", root=tmp_path)
    with pytest.raises(ArtefactError, match="run the benchmark first"):
        plan_report([], {}, ReportConfig(), name="r", root=tmp_path)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_summary_fits_the_terminal_and_cuts_no_figure(made: Artefact, width: int) -> None:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        print_summary(made, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    table = text[: text.index("Per cent of")]
    assert "…" not in table
    rows = [line for line in table.splitlines() if line.startswith(" final")]
    assert len(rows) == 5
    assert all(re.search(r"45\.8 +[\d.]+–[\d.]+ +(6|24) +0", row) for row in rows)
    assert ("±" in table) == (width >= 98)


def test_the_summary_names_the_page_by_its_stable_name(
    made: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.path.parent)
    point(made.path.parent / "report", made.path)
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        print_summary(made, console)
    *_, items, page = console.export_text().rstrip().splitlines()
    assert items.split() == ["Items:", "report/items.html"]
    assert page == "Report: report/index.html"


def test_hostile_answers_neither_style_nor_move_the_terminal(tmp_path: Path) -> None:
    found = verdicts_artefact(tmp_path, hostile_rows(HOSTILE))
    made = write_report([found], {}, ReportConfig(resamples=20), name="r", root=tmp_path)
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        print_summary(made, console)
    text = console.export_text()
    assert "\x1b" not in text
    assert "[bold]x[/bold]" in re.sub(r"\s+", " ", text)
