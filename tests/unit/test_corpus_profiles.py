"""Another language comes with one profile, and nothing else has to know of it."""

import json

import pytest
from typer.testing import CliRunner

from drenpa.cli import app
from drenpa.core.errors import DataError
from drenpa.corpus.clean import drop_debris
from drenpa.corpus.language import identify_language, read_profile

GERMAN = """
code: de
script: LATIN
function_units: >
  der die das und in zu den des mit sich ist nicht von ein eine einer einem auf dem sie es im für
  als auch an werden aus er hat dass bei oder sind noch wie wird haben
usual_share: 0.2
"""
RUSSIAN = """
code: ru
script: CYRILLIC
function_units: и в не на я что он с как это по но они к у из за то все от так же бы о
usual_share: 0.15
"""
TEXTS = {
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft "
    "und Gewissen begabt und sollen einander im Geiste der Brüderlichkeit begegnen.",
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with "
    "reason and conscience and should act towards one another in a spirit of brotherhood.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены "
    "разумом и совестью и должны поступать в отношении друг друга в духе братства.",
    "bo": "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང་། ཐོབ་ཐངགི་རང་དབང་འདྲ་མཉམ་དུ་ཡོད་ལ།",
}


@pytest.fixture
def profiles(tmp_path):
    paths = []
    for name, text in (("de", GERMAN), ("ru", RUSSIAN)):
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(text)
    return paths


def test_a_profile_tells_its_language_from_others_of_the_same_script(profiles):
    known = [read_profile(path) for path in profiles]
    assert {name: identify_language(text, known) for name, text in TEXTS.items()} == {
        name: name for name in TEXTS
    }
    assert identify_language(TEXTS["de"]) == "en"
    assert identify_language(TEXTS["ru"]) == ""
    assert identify_language("Xyz", known) == "en"  # nothing speaks for German


def test_lines_of_another_script_than_the_profiles_go(profiles):
    russian = read_profile(profiles[1])
    text = f"{TEXTS['ru']}\nSubscribe to our letter"
    left, dropped = drop_debris(text, "ru", [russian])
    assert left == TEXTS["ru"]
    assert [gone.reason for gone in dropped] == ["script"]


def test_pages_in_the_language_of_a_profile_are_kept_by_it(profiles, tmp_path):
    rows = [json.dumps({"id": name, "text": text}) for name, text in TEXTS.items()]
    (tmp_path / "pages.jsonl").write_text("\n".join(rows))
    words = ["clean", tmp_path / "pages.jsonl", tmp_path / "out", "--workers", "1"]
    words += ["--language", "de", "--language", "ru"]
    for path in profiles:
        words += ["--profile", path]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    kept = [json.loads(row) for row in (tmp_path / "out" / "pages.jsonl").read_text().splitlines()]
    assert [(page["id"], page["language"]) for page in kept] == [("de", "de"), ("ru", "ru")]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("code: de", "code: en"), "'en' is known already"),
        (("script: LATIN", "script: latin"), "script: String should match pattern"),
        (("usual_share: 0.2", "usual_share: 2"), "usual_share: Input should be less than 1"),
        (("usual_share: 0.2", "share: 0.2"), "usual_share: Field required"),
        (("code: de", "- code"), "cannot be read as a language profile"),
    ],
)
def test_a_profile_at_fault_is_named_with_its_field(profiles, change, told):
    profiles[0].write_text(GERMAN.replace(*change))
    with pytest.raises(DataError, match=told):
        read_profile(profiles[0])
