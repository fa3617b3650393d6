"""A prompt is filled in one pass: what is put in is data, whatever it looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drenpa.core.errors import PromptError
from drenpa.core.knowledge import PROMPT_LANGUAGES
from drenpa.core.prompts import Prompt, load_prompt

SHIPPED = ("answer", "critique", "expand", "judge", "judge_retry", "judge_score")
hostile = st.one_of(
    st.text(),
    st.sampled_from(
        ["{answer}", "{question}", "{", "}", "{}", "{{answer}}", "\\1", "\\g<0>", "$1"]
    ),
)


@given(question=hostile, answer=hostile)
def test_what_is_put_in_is_never_looked_at_again(question, answer):
    prompt = Prompt("p", "Q<{question}> A<{answer}> Q<{question}>")
    found = prompt.fill({"question": question, "answer": answer})
    assert found == "Q<" + question + "> A<" + answer + "> Q<" + question + ">"


def test_values_that_name_each_others_slots_stay_as_they_are():
    prompt = Prompt("p", "{a}|{b}")
    assert prompt.fill({"a": "{b}", "b": "{a}"}) == "{b}|{a}"


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 2}',
        "{Score}",
        "{ score }",
        "{1}",
        "{}",
        "a { b } c",
        "}{",
        "{{{",
        "{a-b}",
        "{_a}",
    ],
)
def test_braces_that_hold_no_lower_case_name_are_only_braces(text):
    prompt = Prompt("p", text)
    assert prompt.slots == ()
    assert prompt.fill({}) == text


def test_a_slot_within_json_braces_is_filled():
    prompt = Prompt("p", '{"q": "{question}", "n": {n}}')
    assert prompt.slots == ("question", "n")
    assert prompt.fill({"question": "why", "n": "3"}) == '{"q": "why", "n": 3}'


def test_a_slot_without_a_value_and_a_value_without_a_slot_are_errors():
    prompt = Prompt("critique.en.md", "{question} {answer}")
    with pytest.raises(PromptError, match=r"prompt critique\.en\.md: no value for slot \{answer\}"):
        prompt.fill({"question": "q"})
    with pytest.raises(PromptError, match=r"it has no slot \{anser\}; did you mean 'answer'\?"):
        prompt.fill({"question": "q", "answer": "a", "anser": "a"})


@pytest.mark.parametrize("language", PROMPT_LANGUAGES)
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_prompt_is_there_in_every_language_with_the_english_slots(name, language):
    prompt = load_prompt(name, language)
    assert prompt.name == f"{name}.{language}.md"  # not the English one in its stead
    assert prompt.text == prompt.text.strip() != ""
    assert set(prompt.slots) == set(load_prompt(name, "en").slots)


def test_a_language_without_prompts_gets_the_english_one():
    assert load_prompt("answer", "fr") == load_prompt("answer", "en")


def test_an_unknown_prompt_is_answered_with_the_nearest():
    with pytest.raises(PromptError, match=r"named 'critque' .*did you mean 'critique'\?"):
        load_prompt("critque")


def test_a_prompt_of_ones_own_is_read_from_its_file(tmp_path):
    file = tmp_path / "mine.md"
    file.write_text("\nས་{question}\n\n", encoding="utf-8")
    prompt = load_prompt(str(file), "bo", slots=("question",))
    assert prompt.fill({"question": "ཅི"}) == "ས་ཅི"
    with pytest.raises(PromptError, match="no such prompt file"):
        load_prompt(str(tmp_path / "other.md"))


def test_a_prompt_with_other_slots_than_the_stage_fills_is_refused_before_the_work(tmp_path):
    file = tmp_path / "mine.md"
    file.write_text("{question} {wer}", encoding="utf-8")
    with pytest.raises(
        PromptError, match=r"slots must be \{answer\}, \{question\}; it has \{question\}, \{wer\}"
    ):
        load_prompt(str(file), slots=("question", "answer"))
    file.write_text("no slot at all", encoding="utf-8")
    with pytest.raises(PromptError, match=r"must be \{question\}; it has none"):
        load_prompt(str(file), slots=("question",))


def test_a_prompt_file_that_is_no_text_is_named(tmp_path):
    file = tmp_path / "mine.md"
    file.write_bytes(b"caf\xe9 {question}")
    with pytest.raises(PromptError, match=r"mine\.md: cannot be read as UTF-8"):
        load_prompt(str(file))
