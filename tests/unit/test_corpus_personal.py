"""What may identify a person is found where it holds up, and replaced without touching the rest."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drenpa.config import CorpusConfig
from drenpa.core.artefacts import read_rows
from drenpa.core.records import Record
from drenpa.corpus.curate import curate
from drenpa.corpus.personal import SORTS, find_personal, scrub_personal


@pytest.mark.parametrize(
    ("text", "sort", "stretch"),
    [
        ("write to a.b+c@mail.example.org.", "email", "a.b+c@mail.example.org"),
        ("邮箱：tashi@example.cn，谢谢", "email", "tashi@example.cn"),
        ("pema [at] example.org", "email", "pema [at] example.org"),
        ("4111 1111 1111 1111", "card", "4111 1111 1111 1111"),  # the networks' own test numbers
        ("card 378282246310005.", "card", "378282246310005"),
        ("5555-5555-5555-4444", "card", "5555-5555-5555-4444"),
        ("GB82 WEST 1234 5698 7654 32", "iban", "GB82 WEST 1234 5698 7654 32"),
        ("身份证11010519491231002X。", "china-id", "11010519491231002X"),  # GB 11643's example
        ("2341 2341 2346", "india-id", "2341 2341 2346"),
        ("from 8.8.8.8 today", "ip", "8.8.8.8"),
        ("2001:4860:4860::8888", "ip", "2001:4860:4860::8888"),
        ("+975 2 334 567", "phone", "+975 2 334 567"),
        ("手机13812345678", "phone", "13812345678"),
        ("Tel.: (01892) 221-345", "phone", "(01892) 221-345"),
        ("ཁ་པར་ཨང་། ༠༡༨༩༢ ༢༢༡ ༣༤༥", "phone", "༠༡༨༩༢ ༢༢༡ ༣༤༥"),
        ("00 41 44 668 18 00", "phone", "00 41 44 668 18 00"),
    ],
)
def test_what_identifies_is_found_whole(text, sort, stretch):
    (found,) = find_personal(text)
    assert (found.sort, text[found.start : found.end]) == (sort, stretch)
    assert scrub_personal(text) == (text.replace(stretch, f"[{sort}]"), {sort: 1})


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # Luhn fails
        "0000 0000 0000 0000",
        "GB82 WEST 1234 5698 7654 33",
        "110105194912310021",  # the check character fails
        "11010519491331002X",  # a thirteenth month
        "2341 2341 2347",
        "999.8.8.8 and 127.0.0.1 and 192.168.0.1",
        "version 8.2.3.4 of section 1.2.3.4.5",
        "at 12:30:45, from 1949-10-01 to 2019.5.12",
        "1959年有80000人 and 3.14159265358979",
        "ISBN 978-3-16-148410-0",
        "a @ b, @name, user@localhost",
        "the year 2008 phone market grew",
        "༡༩༥༩ ལོར་མི་ ༨༠༠༠༠",
    ],
)
def test_what_only_looks_alike_is_left(text):
    assert find_personal(text) == []
    assert scrub_personal(text) == (text, {})


@pytest.mark.parametrize(
    ("text", "sort", "stretch"),
    [
        ("Ask Mrs. Tashi O'Brien-Lhamo about it.", "name", "Tashi O'Brien-Lhamo"),
        ("Dr Tenzin said so. I drew it.", "name", "Tenzin"),
        ("my name is Pema Dolma and I", "name", "Pema Dolma"),
        ("Name: Karma Wangmo\nAge: 30", "name", "Karma Wangmo"),
        ("，李小龙先生说", "name", "李小龙"),
        ("姓名：扎西多吉 年龄", "name", "扎西多吉"),
        ("我叫王芳。", "name", "王芳"),
        ("དགེ་རྒན་བཀྲ་ཤིས་དོན་གྲུབ་ལགས་ཀྱིས་གསུངས།", "name", "བཀྲ་ཤིས་དོན་གྲུབ"),
        ("བློ་བཟང་བསྟན་འཛིན་རྒྱ་མཚོ།", "name", "བློ་བཟང་བསྟན་འཛིན་རྒྱ་མཚོ"),
        ("at 12 Temple Road, Dharamshala 176219", "address", "12 Temple Road, Dharamshala 176219"),
        ("send it to P.O. Box 4501 today", "address", "P.O. Box 4501"),
        ("在北京市海淀区中关村大街27号1101室见", "address", "在北京市海淀区中关村大街27号1101室"),
        ("ཁ་བྱང་། ལྷ་ས་གྲོང་ཁྱེར་བྱང་ལམ་ཨང་༢༣", "address", "ལྷ་ས་གྲོང་ཁྱེར་བྱང་ལམ་ཨང་༢༣"),
    ],
)
def test_names_and_addresses_are_flagged_and_never_replaced(text, sort, stretch):
    found = [(part.sort, text[part.start : part.end]) for part in find_personal(text)]
    assert found == [(sort, stretch)]
    assert scrub_personal(text) == (text, {sort: 1})


@pytest.mark.parametrize(
    "text",
    [
        "Miss the bus, sign your name: then go. Prof. and Dr.",
        "a street of 12 shops on the Road to Lhasa; box 4",
        "老师和医生都在街上，门牌号是什么？第3号",
        "ཉི་མ་ཟླ་བ་གཉིས། ཚེ་རིང་བར་ཤོག བདེ་སྐྱིད་ཕུན་ཚོགས། བཀྲ་ཤིས་བདེ་ལེགས།",
        "སངས་རྒྱས་བསྟན་པ་དར། ཁ་བྱང་མེད།",
    ],
)
def test_words_that_are_names_elsewhere_are_left(text):
    assert find_personal(text) == []


def test_a_text_with_several_keeps_its_words_between_them():
    text = "Ask pema@example.org (tel 01892 221345) or lobsang@example.org."
    scrubbed, counts = scrub_personal(text)
    assert scrubbed == "Ask [email] (tel [phone]) or [email]."
    assert counts == {"email": 2, "phone": 1}


@given(st.text(alphabet="0123456789༠༡@.+-: ()aZཀ电话tel\n", max_size=80) | st.text(max_size=80))
def test_findings_stand_apart_and_scrubbing_leaves_none(text):
    found = find_personal(text)
    assert all(one.end <= two.start for one, two in itertools.pairwise(found))
    assert all(one.sort in SORTS and one.start < one.end for one in found)
    assert sum(scrub_personal(text)[1].values()) == len(found)


@pytest.mark.parametrize(
    ("treatment", "questions", "dropped"),
    [
        ("flag", ["Who is pema@example.org?", "Why does it rain on the hills?"], []),
        ("scrub", ["Who is [email]?", "Why does it rain on the hills?"], []),
        ("drop", ["Why does it rain on the hills?"], [("records", "a"), ("rankings", "r")]),
        ("keep", ["Who is pema@example.org?", "Why does it rain on the hills?"], []),
    ],
)
def test_a_recipe_says_what_becomes_of_rows_that_identify_somebody(
    tmp_path, treatment, questions, dropped
):
    record = {"id": "a", "kind": "foundation", "answer": "A teacher in the valley."}
    rows = {
        "records": [
            record | {"question": "Who is pema@example.org?"},
            record | {"id": "b", "question": "Why does it rain on the hills?", "answer": "Wind."},
        ],
        "rankings": [
            {
                "id": "r",
                "record": "a",
                "candidates": [
                    {"id": "x", "answer": "Ring 13812345678.", "rank": 1},
                    {"id": "y", "answer": "A baker in the town.", "rank": 2},
                ],
            }
        ],
        "benchmark": [record | {"id": "t", "question": "How is butter made from milk?"}],
    }
    for role, entries in rows.items():
        (tmp_path / f"{role}.jsonl").write_text("\n".join(map(json.dumps, entries)))
    names = {role: (str(tmp_path / f"{role}.jsonl"),) for role in rows}
    rows["benchmark"][0]["answer"] = "By churning cream."
    (tmp_path / "benchmark.jsonl").write_text(json.dumps(rows["benchmark"][0]))
    corpus = curate(CorpusConfig(**names, personal=treatment), root=tmp_path / "run")
    kept = read_rows(corpus.path / "records.parquet", Record)
    assert [row.question for row in kept] == questions
    gone = [json.loads(line) for line in (corpus.path / "dropped.jsonl").read_text().splitlines()]
    assert [(entry["from"], entry["id"]) for entry in gone if entry["reason"] == "personal"] == (
        dropped
    )
    found = {} if treatment == "keep" else {"email": 1, "phone": 1}
    assert corpus.summary["personal"] == found
