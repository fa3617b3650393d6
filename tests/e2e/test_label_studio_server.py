"""A real Label Studio takes the project and its tasks, and its export comes back.

It is installed into an environment of its own, about a gigabyte, unless DRENPA_LABEL_STUDIO names a
`label-studio` command; it takes half a minute to start.
"""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from tests.environments import own_environment

from drenpa.corpus.annotate import Store
from drenpa.corpus.clean import clean_text
from drenpa.corpus.label_studio import take_export, write_tasks
from drenpa.corpus.rounds import CandidateDraft, Draft

TOKEN = "0123456789abcdef0123456789abcdef01234567"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def command():
    """The path of the `label-studio` command."""
    named = os.environ.get("DRENPA_LABEL_STUDIO")
    if named:
        return named
    python = own_environment("label-studio", "label-studio==1.23.2")
    return str(Path(python).with_name("label-studio"))


@pytest.fixture(scope="module")
def api(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": f"{Path(command).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "0",
        "SENTRY_DSN": "",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "OMP_NUM_THREADS": "1",
    }
    start = [command, "start", "--no-browser", "--internal-host", "127.0.0.1"]
    start += ["--port", str(port), "--user-token", TOKEN]
    start += ["--username", "lead@example.org", "--password", "not-a-secret"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            start, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder
        ) as server,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Token {TOKEN}"},
            timeout=60,
        ) as client,
    ):
        try:
            _wait(client, server, folder / "log")
            yield client
        finally:
            server.terminate()
            server.wait(timeout=60)


def _wait(client, server, log):
    for _ in range(600):
        if server.poll() is not None:
            break
        try:
            if client.get("/api/projects").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise AssertionError(f"Label Studio did not start: {log.read_text()[-3000:]}")


def posted(api, path, **values):
    response = api.post(path, **values)
    assert response.is_success, response.text[:2000]
    return response.json()


def through(api, store, folder, person, phase, annotate):
    """Take a phase's items to Label Studio, annotate them there, and bring the export back."""
    path = folder / f"{phase}-{person}.json"
    count = write_tasks(store, path, person, phase)
    config = path.with_suffix(".xml").read_text()
    project = posted(
        api, "/api/projects", json={"title": f"{phase} {person}", "label_config": config}
    )["id"]
    imported = posted(api, f"/api/projects/{project}/import", json=json.loads(path.read_text()))
    assert imported["task_count"] == count
    tasks = api.get("/api/tasks", params={"project": project, "fields": "all"}).json()["tasks"]
    for task in tasks:
        results = [
            {"from_name": name, "to_name": to, "type": kind, "value": value, "id": f"r{number}"}
            for number, (name, to, kind, value) in enumerate(annotate(task["data"]))
        ]
        posted(api, f"/api/tasks/{task['id']}/annotations", json={"result": results})
    export = api.get(f"/api/projects/{project}/export", params={"exportType": "JSON"})
    assert export.is_success, export.text
    path.write_bytes(export.content)
    outcome = take_export(store, path)
    assert (outcome.taken, outcome.waiting, outcome.refused) == (count, 0, ())
    again = take_export(store, path)
    assert (again.taken, again.refused) == (count, ())


def chosen(**values):
    return [(n, "shown_question", "choices", {"choices": [v]}) for n, v in values.items()]


def written(of="question", **values):
    return [(n, f"shown_{of}", "textarea", {"text": [v]}) for n, v in values.items()]


def numbered(of="question", **values):
    return [(n, f"shown_{of}", "number", {"number": v}) for n, v in values.items()]


def test_all_rounds_go_through_a_real_label_studio(api, tmp_path):
    answers = [CandidateDraft(id="x", answer="ལན།"), CandidateDraft(id="y", answer="=Two & <b>")]
    text = "བྱ་ཚིག་ནི་ཅི་ཞིག་ཡིན།\nདཔེ་ཞིག"
    drafts = [
        Draft(id="bo/1", question=text, language="bo", candidates=answers),
        Draft(id="en", question='What is a <verb> & "why"?', answer="It acts."),
    ]
    with Store(tmp_path / "s.db") as store:
        store.add(drafts, actor="import")
        through(
            api, store, tmp_path, "dolma", "question",
            lambda data: [
                *written(question=data["question"] + " །"),
                *chosen(kind="foundation", stability="slow"),
                *numbered(demand=2.5),
            ],
        )  # fmt: skip
        through(
            api, store, tmp_path, "tashi", "answer",
            lambda data: [*written(answer=f"ལན། {data['item']}"), *chosen(kind="foundation")],
        )  # fmt: skip
        scores = {"quality": "2", "diversity": "1", "timeliness": "1", "professionalism": "2"}
        for rater, quality in (("r1", "0"), ("r2", "2"), ("པད་མ་", "1")):
            rating = scores | {"quality": quality, "agrees": "yes", "kind": "foundation"}
            through(
                api, store, tmp_path, rater, "audit",
                lambda data, rating=rating: [*chosen(**rating), *written(comment="ཡག་པོ།")],
            )  # fmt: skip
        assert {item.phase for item in store.items()} == {"adjudication"}
        through(
            api, store, tmp_path, "judge", "adjudication",
            lambda data: chosen(
                outcome="accepted" if data["item"] == "bo/1" else "rejected", kind="foundation"
            ),
        )  # fmt: skip
        through(
            api, store, tmp_path, "གསར་པ་", "rejected",
            lambda data: [
                *written(question="What is a verb?"),
                *written("answer", answer="It acts,\nor is."),
                *chosen(kind="connection"),
            ],
        )  # fmt: skip
        item = store.item("en")
        assert (item.phase, item.answer, item.kind) == ("audit", "It acts,\nor is.", "connection")
        through(
            api, store, tmp_path, "nyima", "accepted",
            lambda data: [
                *numbered("answer_1", rank_1=2),
                *numbered("answer_2", rank_2=1),
                *written("answer_2", note_2="ཐུང་ངུ།"),
            ],
        )  # fmt: skip
        item = store.item("bo/1")
    assert item.phase == "accepted"
    assert item.question == clean_text(text + " །")
    assert (item.answer, item.kind, item.demand) == ("ལན། bo/1", "foundation", 2.5)
    assert [(r.rater, r.quality, r.comment) for r in item.ratings] == [
        ("r1", 0, "ཡག་པོ།"),
        ("r2", 2, "ཡག་པོ།"),
        ("པད་མ་", 1, "ཡག་པོ།"),
    ]
    [order] = item.orders.values()
    assert [(e.candidate, e.rank, e.note) for e in order.ranks] == [("x", 2, ""), ("y", 1, "ཐུང་ངུ།")]
