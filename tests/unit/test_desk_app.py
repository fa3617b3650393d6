"""The desk: people work through their rounds with plain forms, and nobody else can."""

import contextlib
import json
import re
import sqlite3

import pytest
from starlette.testclient import TestClient

from drenpa.core.errors import DrenpaError
from drenpa.core.records import Ranking, Record
from drenpa.corpus.annotate import Store
from drenpa.corpus.intake import read_rankings, read_records
from drenpa.corpus.rounds import Draft, GoldDraft
from drenpa.desk.access import host_name, key_of, links, pass_for
from drenpa.desk.app import create_app

HOST = "http://127.0.0.1:8765"
NASTY = "<script>alert('x')</script> & \"quotes\" {{ 7919 * 7919 }}"
RATING = {
    "agrees": "yes",
    "kind": "foundation",
    "quality": "2",
    "diversity": "1",
    "timeliness": "1",
    "professionalism": "2",
}


class Desk:
    """A browser that fills in the desk's own forms."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def am(self, name):
        self.client.cookies.clear()
        assert self.post("/name", {"name": name}).status_code == 303
        return self

    def post(self, path, values, **headers):
        return self.client.post(
            path, data=values, headers={"Origin": HOST} | headers, follow_redirects=False
        )

    def item(self, name="a/1"):
        return self.client.get("/item", params={"id": name})

    def step(self, action, values, name="a/1"):
        page = self.item(name).text
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', page))
        if action != "undo":
            hidden.pop("version", None)
        return self.post(f"/item/{action}?id={name}", hidden | values)


@pytest.fixture
def path(tmp_path):
    with Store(tmp_path / "desk.db") as store:
        store.add(
            [
                Draft(id="a/1", question="What is a verb?", answer=NASTY, source="book"),
                Draft(id="bo", question="ཡི་གེ་གང་ཡིན།", language="bo"),
            ],
            actor="import",
        )
    return tmp_path / "desk.db"


@pytest.fixture
def desk(path):
    with TestClient(create_app(path), base_url=HOST) as client:
        yield Desk(client)


QUESTION = {
    "question": "What does a verb do?",
    "kind": "foundation",
    "stability": "slow",
    "demand": "2",
}


def accepted(desk):
    desk.am("Dolma").step("edit_question", QUESTION)
    desk.am("Tashi").step("edit_answer", {"answer": "It names\r\nan action.", "kind": "foundation"})
    for answer in ("A doing word.", "A thing."):
        desk.step("add_candidate", {"answer": answer})
    for rater in ("r1", "r2", "r3"):
        assert desk.am(rater).step("rate", RATING).status_code == 303


def test_an_item_goes_from_question_to_export_through_the_forms(desk, tmp_path):
    accepted(desk)
    desk.am("པད་མ་")
    order = {"rank-a": "1", "note-a": "short but right", "rank-b": "2", "note-b": "no"}
    assert desk.step("rank", order).status_code == 303
    for name in ("records.jsonl", "rankings.jsonl"):
        (tmp_path / name).write_text(desk.client.get(f"/export/{name}").text)
    assert read_records(tmp_path / "records.jsonl") == [
        Record(
            id="a/1",
            kind="foundation",
            question="What does a verb do?",
            answer="It names\nan action.",
            source="book",
            stability="slow",
            demand=2.0,
        )
    ]
    [ranking] = read_rankings(tmp_path / "rankings.jsonl", records=["a/1"])
    assert isinstance(ranking, Ranking)
    assert ranking.annotator == "པད་མ་"
    assert [(c.rank, c.note) for c in ranking.candidates] == [(1, "short but right"), (2, "no")]
    ratings = desk.client.get("/export/ratings.jsonl").text.splitlines()
    assert [json.loads(line)["rater"] for line in ratings] == ["r1", "r2", "r3"]


def test_everything_shown_is_escaped(desk):
    desk.am(NASTY)
    for page in (desk.item(), desk.client.get("/"), desk.client.get("/?phase=<script>")):
        assert page.status_code == 200
        assert "<script" not in page.text
        assert str(7919 * 7919) not in page.text
    assert "&lt;script&gt;alert" in desk.item().text
    missing = desk.item("<script>")
    assert missing.status_code == 404
    assert "<script" not in missing.text


def test_each_round_shows_its_own_form_only(desk):
    assert "Round 1" not in desk.item().text  # nobody has said who they are
    desk.am("Dolma")
    page = desk.item().text
    assert "Round 1" in page
    assert "Round 2" not in page
    desk.step("edit_question", QUESTION)
    page = desk.item().text
    assert "Round 2" in page
    assert "Round 1" not in page


def test_the_rules_hold_against_hand_made_forms(desk):
    desk.am("Dolma")
    response = desk.step("edit_question", QUESTION | {"answer": "smuggled"})
    assert response.status_code == 400
    assert "Extra inputs are not permitted" in response.text
    assert "What does a verb do?" in response.text  # what was typed is still there
    assert desk.step("edit_answer", {"answer": "x", "kind": "foundation"}).status_code == 400
    assert desk.step("burn", {}).status_code == 404
    assert desk.step("import", {}).status_code == 400
    assert desk.step("rate", RATING, name="nothing").status_code == 404


def test_a_step_without_a_name_is_refused(desk):
    [seen] = set(re.findall(r'name="seen" value="(\w+)"', desk.am("Dolma").item().text))
    desk.client.cookies.clear()
    response = desk.post("/item/edit_question?id=a/1", QUESTION | {"seen": seen})
    assert response.status_code == 400
    assert "who are you?" in response.text


def test_two_people_on_one_item_the_second_is_told_and_keeps_what_was_typed(desk):
    [seen] = set(re.findall(r'name="seen" value="(\w+)"', desk.am("Tashi").item().text))
    desk.am("Dolma").step("edit_question", QUESTION)
    desk.am("Tashi")
    late = QUESTION | {"seen": seen, "question": "My own words"}
    response = desk.post("/item/edit_question?id=a/1", late)
    assert response.status_code == 409
    assert "Dolma changed it meanwhile" in response.text


def test_raters_see_neither_scores_nor_comments_of_the_others(desk):
    desk.am("Dolma").step("edit_question", QUESTION)
    desk.step("edit_answer", {"answer": "It acts.", "kind": "foundation"})
    desk.am("r1").step("rate", RATING | {"comment": "a secret remark"})
    assert "a secret remark" in desk.item().text
    desk.am("r2")
    page = desk.item().text
    assert "a secret remark" not in page
    for told in ("r1", "Dolma", "<dt>Kind</dt>", "It acts.</span>"):
        assert told not in page
    assert "Your rating" in page or "your rating" in page
    desk.am("Dolma")
    assert "your rating" not in desk.item().text


def test_orders_of_other_annotators_stay_hidden(desk):
    accepted(desk)
    desk.am("Pema").step("rank", {"rank-a": "1", "rank-b": "2", "note-a": "a private note"})
    assert "a private note" in desk.item().text
    desk.am("Nyima")
    assert "a private note" not in desk.item().text


def test_a_last_step_can_be_undone_by_who_did_it(desk):
    desk.am("Dolma").step("edit_question", QUESTION)
    assert "Undo my last step" in desk.item().text
    assert desk.step("undo", {}).status_code == 303
    assert "Round 1" in desk.item().text
    assert "Undo my last step" not in desk.item().text


def test_the_next_link_leads_to_work(desk):
    assert (
        desk.client.get("/next?phase=question", follow_redirects=False)
        .headers["location"]
        .startswith("/?")
    )
    desk.am("Dolma")
    page = desk.client.get("/next?phase=question")
    assert "Round 1" in page.text
    assert "Nothing here" in desk.client.get("/next?phase=adjudication").text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "", "Referer": "http://evil.example/127.0.0.1:8765"},
    ],
)
def test_forms_from_elsewhere_are_refused(desk, headers):
    desk.am("Dolma")
    response = desk.post("/item/edit_question?id=a/1", QUESTION | {"seen": "1"}, **headers)
    assert response.status_code == 403
    desk.client.cookies.clear()
    assert "Dolma" not in desk.item().text


def test_a_form_without_origin_or_referer_is_refused_and_a_referer_will_do(desk):
    assert desk.client.post("/name", data={"name": "x"}).status_code == 403
    own = {"Referer": f"{HOST}/item?id=1"}
    response = desk.client.post("/name", data={"name": "x"}, headers=own, follow_redirects=False)
    assert response.status_code == 303


def test_another_host_name_is_refused(desk):
    assert desk.client.get("/", headers={"Host": "evil.example:8765"}).status_code == 421
    assert desk.client.get("/", headers={"Host": "localhost:8765"}).status_code == 200
    assert desk.client.get("/", headers={"Host": "[::1]:8765"}).status_code == 200


@pytest.mark.parametrize("host", ["[::1", "[nothing]", "//", "@", "\N{CARE OF}"])
def test_a_malformed_host_is_refused_like_any_other(desk, host):
    assert desk.client.get("/", headers={"Host": host.encode()}).status_code == 421


def test_a_form_with_a_malformed_origin_is_refused(desk):
    assert desk.post("/name", {"name": "x"}, Origin="http://[::1").status_code == 403


def test_a_host_name_is_taken_in_whatever_case_it_was_given(path):
    app = create_app(path, hosts=("Desk.Example.org",))
    with TestClient(app, base_url="https://desk.example.org") as client:
        assert client.get("/").status_code == 200


def test_a_host_is_a_name_or_an_address_and_nothing_more():
    assert host_name(" Desk.Example.org") == "desk.example.org"
    assert host_name("192.0.2.7") == "192.0.2.7"
    assert host_name("2001:DB8::0:1") == "2001:db8::1"
    for wrong in ("http://desk.example.org", "desk.example.org:443", "a b", ".org", "x/y", "བོད"):
        with pytest.raises(DrenpaError, match="is no host name; give it alone"):
            host_name(wrong)


def test_no_script_may_run_and_no_page_may_frame_the_desk(desk):
    policy = desk.client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert desk.client.get("/static/desk.css").status_code == 200
    assert "http" not in desk.client.get("/static/desk.css").text


def test_a_form_that_is_too_large_is_refused(desk):
    assert desk.post("/name", {"name": "x" * (2**20 + 1)}).status_code == 413


def test_a_long_list_has_pages(path):
    with Store(path) as store:
        store.add([Draft(id=f"n{n:03}", question="Why?") for n in range(60)], actor="import")
    with TestClient(create_app(path), base_url=HOST) as client:
        first = client.get("/").text
        assert "n010" in first
        assert "n059" not in first
        assert "n059" in client.get("/?start=50").text


def test_tibetan_is_marked_as_such(desk):
    assert '<p class="text" lang="bo">ཡི་གེ་གང་ཡིན།</p>' in desk.item("bo").text


KEY = b"a key of the desk"


@pytest.fixture
def locked(path):
    with TestClient(create_app(path, key=KEY), base_url=HOST) as client:
        yield Desk(client)


def come_in(desk, person):
    [(_, link)] = links(KEY, HOST, [person] if person else [])
    return desk.client.get(link, follow_redirects=False)


def test_a_desk_with_a_key_opens_to_its_links_only(locked):
    for place in ("/", "/item?id=a/1", "/export/records.jsonl", "/static/desk.css"):
        assert locked.client.get(place).status_code == 403
    wrong = {"person": "", "pass": pass_for(b"another key", "")}
    assert locked.client.get("/", params=wrong).status_code == 403
    assert "set-cookie" not in locked.client.get("/", params=wrong).headers
    response = come_in(locked, "")
    assert (response.status_code, response.headers["location"]) == (303, "/")
    assert locked.client.get("/").status_code == 200
    assert locked.post("/name", {"name": "Dolma"}).status_code == 303
    assert locked.step("edit_question", QUESTION).status_code == 303


def test_a_personal_link_is_of_that_person_alone(locked, path):
    come_in(locked, "པད་མ་:x")
    page = locked.client.get("/").text
    assert "You are པད་མ་:x" in page
    assert 'action="/name"' not in page
    assert locked.post("/name", {"name": "Dolma"}).status_code == 403
    locked.client.cookies.set("person", "Dolma")
    assert locked.step("edit_question", QUESTION).status_code == 303
    with Store(path) as store:
        assert store.item("a/1").editors == {"པད་མ་:x"}


def test_a_personal_link_opens_no_export_so_orders_of_others_stay_hidden(locked, path):
    with TestClient(create_app(path), base_url=HOST) as client:
        accepted(Desk(client))
    come_in(locked, "Pema")
    locked.step("rank", {"rank-a": "1", "rank-b": "2", "note-a": "a private note"})
    come_in(locked, "Nyima")
    assert "/export/" not in locked.client.get("/").text
    for name in ("records.jsonl", "rankings.jsonl", "ratings.jsonl"):
        response = locked.client.get(f"/export/{name}")
        assert response.status_code == 403
        assert "drenpa annotate release" in response.text
        assert "private note" not in response.text
    locked.client.cookies.clear()
    come_in(locked, "")
    assert "private note" in locked.client.get("/export/rankings.jsonl").text


def test_a_pass_does_not_serve_another_name(locked):
    locked.client.cookies.set("pass", f"Dolma:{pass_for(KEY, 'Tashi')}")
    assert locked.client.get("/").status_code == 403
    forged = {"person": "Dolma", "pass": pass_for(KEY, "Tashi")}
    assert locked.client.get("/", params=forged).status_code == 403


def test_the_key_lies_beside_the_store_for_its_owner_only(tmp_path):
    key = key_of(tmp_path / "desk.db")
    assert key_of(tmp_path / "desk.db") == key
    assert key != key_of(tmp_path / "other.db")
    assert (tmp_path / "desk.db.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "desk.db.key").write_text("none")
    with pytest.raises(DrenpaError, match="holds no key"):
        key_of(tmp_path / "desk.db")


def test_the_folder_of_the_key_is_made_and_one_that_cannot_be_is_named(tmp_path):
    assert key_of(tmp_path / "new" / "deep" / "desk.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(DrenpaError, match=r"file/desk\.db\.key: cannot be written \("):
        key_of(tmp_path / "file" / "desk.db")


def test_a_control_item_looks_like_any_other(desk, path):
    same = {"question": QUESTION["question"], "answer": "It acts.", "source": "book"}
    with Store(path) as store:
        gold = GoldDraft(id="g", agrees=False, kind="profession", **same)
        store.add_gold([gold], actor="import")
        desk.am("Dolma").step("edit_question", QUESTION)
        desk.step("edit_answer", {"answer": "It acts.", "kind": "foundation"})
        for rater in ("r1", "r2", "r3", "r4"):
            desk.am(rater).step("rate", RATING, name="g")
        assert len(store.item("g").ratings) == 4
    undo = desk.item("g").text
    assert not re.findall(r'name="(?:version|seen)" value="\d', undo)
    assert len(set(re.findall(r'name="(?:version|seen)" value="([a-p]{16})"', undo))) == 1
    desk.am("r5")

    def told(page, name):
        return re.sub(r'name="seen" value="\w+"', "", page).replace(name, "ID")

    shown = told(desk.item("g").text, "id=g").replace(">g<", ">ID<").replace(">g ", ">ID ")
    other = told(desk.item("a/1").text, "id=a/1").replace(">a/1<", ">ID<").replace(">a/1 ", ">ID ")
    assert shown == other
    rows = re.findall(r"<tr>.*?</tr>", desk.client.get("/?phase=audit").text, re.DOTALL)[1:]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row)[1:] for row in rows]
    assert cells[0] == cells[1] == ["What does a verb do?", "–", "audit"]


def test_a_suggested_kind_says_who_suggests_it_and_why(desk, path):
    with Store(path) as store:
        content = {"kind": "connection", "source": "llm tiny", "reasons": ["both are <b>words</b>"]}
        store.act("bo", "suggest", "lead", content, seen=1)
    desk.am("Dolma")
    text = desk.item("bo").text
    assert "suggested by llm tiny: both are &lt;b&gt;words&lt;/b&gt;. Nobody has decided" in text
    edit = QUESTION | {"question": "ཅི།", "kind": "foundation"}
    assert desk.step("edit_question", edit, "bo").status_code == 303
    assert "suggested by" not in desk.item("bo").text


def test_a_store_that_cannot_be_written_is_said_and_what_was_typed_is_kept(path):
    with TestClient(create_app(path), base_url=HOST) as client:
        desk = Desk(client).am("Dolma")
        page = desk.item().text
        [seen] = set(re.findall(r'name="seen" value="(\w+)"', page))
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute(
                "CREATE TRIGGER full BEFORE INSERT ON events"
                " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            )
        typed = QUESTION | {"seen": seen, "question": "My own words"}
        response = desk.post("/item/edit_question?id=a/1", typed)
        assert response.status_code == 503
        assert "cannot be written (database or disk is full)" in response.text
        assert "My own words" in response.text
