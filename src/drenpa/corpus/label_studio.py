"""Work in Label Studio: the configuration of a project, its tasks, and the way back.

A project is for one person and one phase, as a sheet is (`exchange`): a task carries the item, the
version it shows and the name of the person, and its JSON export comes back under the same rules.
Scores are choices, since Label Studio's stars begin at one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from pydantic import ValidationError

from drenpa.core.artefacts import write_text
from drenpa.core.errors import DataError
from drenpa.core.knowledge import KINDS, STABILITIES
from drenpa.core.text import brief
from drenpa.corpus.annotate import Store
from drenpa.corpus.audit import ASPECTS
from drenpa.corpus.exchange import Line, Outcome, open_sheet, sheet_lines, take_lines
from drenpa.corpus.formats import Faults
from drenpa.corpus.intake import Located
from drenpa.corpus.rounds import Item, Phase

_OUTCOMES = ("accepted", "rejected", "question", "answer")
_NAMED = ("item", "seen", "phase", "person")


def project_config(phase: Phase, *, candidates: int = 0) -> str:
    """Return the labelling configuration (XML) for a phase.

    candidates: of the item that has most, where answers are ranked.
    """
    kind = _choices("kind", "Kind", KINDS)
    parts = {
        "question": [
            _shown("answer", "Answer, to be read"),
            _text("question", "Question", "$question"),
            kind,
            _choices("stability", "How fast does it go out of date?", STABILITIES),
            _number("demand", "How often is it asked?", "question", least=0),
        ],
        "answer": [_text("answer", "Answer", "$answer"), kind],
        "audit": [
            _shown("answer", "Answer"),
            _choices("agrees", "Does the answer answer the question?", ("yes", "no")),
            kind,
            *(_choices(aspect, aspect, ("0", "1", "2")) for aspect in ASPECTS),
            _text("comment", "Comment", required=False),
        ],
        "adjudication": [
            _shown("answer", "Answer"),
            _shown("dispute", "What the raters dispute"),
            _choices("outcome", "Outcome", _OUTCOMES),
            kind,
            _text("comment", "Why", required=False),
        ],
        "accepted": [
            part
            for number in range(1, candidates + 1)
            for part in (
                _shown(f"answer_{number}", f"Answer {number}"),
                _number(f"rank_{number}", "Rank, 1 is best", f"answer_{number}", least=1),
                _text(f"note_{number}", "Note", required=False, of=f"answer_{number}"),
            )
        ],
        "rejected": [
            _shown("answer", "Answer"),
            _shown("dispute", "Why it was rejected"),
            _text("question", "Question, repaired", "$question"),
            _text("answer", "Answer, repaired", "$answer", of="answer"),
            kind,
        ],
    }
    return "\n".join(["<View>", _shown("question", "Question"), *parts[phase], "</View>", ""])


def write_tasks(
    store: Store, path: Path, person: str, phase: Phase, *, count: int | None = None
) -> int:
    """Write the person's open items of a phase as tasks (JSON), and beside it, under the suffix
    `.xml`, the configuration of the project; return how many.

    count:  at most so many.
    raises: DataError when there are none.
    """
    items = open_sheet(store, person, phase, count)
    most = max(len(item.candidates) for item in items)
    tasks = [_task(item, person, most, store.stamp(item.id, item.version)) for item in items]
    write_text(path.with_suffix(".xml"), project_config(phase, candidates=most))
    write_text(path, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
    return len(items)


def take_export(store: Store, path: Path) -> Outcome:
    """Take the work of a project's JSON export; a task at fault is refused and the rest goes on.

    raises: DataError when the file is no such export.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(tasks, list):
        raise DataError(f"{path}: is not a list of tasks; choose JSON when exporting the project")
    faults, lines, waiting = Faults(), [], 0
    for number, task in enumerate(tasks, 1):
        place = f"{path}: task {task.get('id', number) if isinstance(task, dict) else number}"
        try:
            done = [a for a in task["annotations"] if not a.get("was_cancelled")]
            if not done:
                waiting += 1
            elif len(done) > 1:
                faults.add(place, f"has {len(done)} annotations; a task is one person's")
            else:
                lines += [Located(line, place) for line in _lines(task["data"], done[0]["result"])]
        except (KeyError, TypeError, AttributeError, ValueError, ValidationError) as error:
            what = brief(" ".join(str(error).split()), 100)
            faults.add(place, f"is no task that was made here ({type(error).__name__}: {what})")
    outcome = take_lines(store, lines)
    return Outcome(outcome.taken, outcome.waiting + waiting, (*faults.lines, *outcome.refused))


def _task(item: Item, person: str, most: int, seen: str) -> dict[str, Any]:
    lines = sheet_lines(item, person, seen=seen)
    first = lines[0]
    data: dict[str, Any] = {name: getattr(first, name) for name in _NAMED}
    data |= {"question": first.question, "answer": first.answer, "dispute": first.dispute}
    if item.phase == "accepted":
        for number in range(1, most + 1):
            line = lines[number - 1] if number <= len(lines) else None
            data[f"candidate_{number}"] = line.candidate if line else ""
            data[f"answer_{number}"] = line.answer if line else ""
    known = {
        name: value
        for name in ("kind", "stability")
        if item.phase in ("question", "answer", "rejected") and (value := getattr(first, name))
    }
    results = [_choice_result(name, str(value)) for name, value in known.items()]
    if item.phase == "question":
        results.append(
            _result("demand", "number", {"number": item.demand}),
        )
    prediction: dict[str, Any] = {"model_version": item.kind_source or "draft", "result": results}
    if item.is_kind_suggested and item.suggestion and item.suggestion.probability is not None:
        prediction["score"] = item.suggestion.probability
    return {"data": data, "predictions": [prediction] if results else []}


def _lines(data: Mapping[str, Any], results: Iterable[Mapping[str, Any]]) -> list[Line]:
    """The lines of a sheet that an annotated task stands for."""
    cells = {result["from_name"]: _value(result["value"]) for result in results}
    named = {name: data[name] for name in _NAMED}
    if data["phase"] != "accepted":
        shown = {name: data[name] for name in ("question", "answer")}
        return [Line.model_validate({**named, **shown, **cells, "done": "yes"})]
    places = [key.rpartition("_")[2] for key in data if key.startswith("candidate_") and data[key]]
    return [
        Line.model_validate(
            {
                **named,
                "question": data["question"],
                "candidate": data[f"candidate_{place}"],
                "answer": data[f"answer_{place}"],
                "rank": cells.get(f"rank_{place}", ""),
                "note": cells.get(f"note_{place}", ""),
                "done": "yes",
            }
        )
        for place in places
    ]


def _value(value: Mapping[str, Any]) -> str | float:
    """What a control was set to, whichever it is."""
    if "choices" in value:
        [choice] = value["choices"]
        return str(choice)
    if "number" in value:
        return float(value["number"])
    texts = value["text"]
    return "\n".join(texts) if isinstance(texts, list) else str(texts)


def _result(name: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": "shown_question", "type": kind, "value": dict(value)}


def _choice_result(name: str, value: str) -> dict[str, Any]:
    return _result(name, "choices", {"choices": [value]})


def _shown(name: str, title: str) -> str:
    value = quoteattr(f"${name}")
    return f'  <Header value={quoteattr(title)}/>\n  <Text name="shown_{name}" value={value}/>'


def _text(
    name: str, title: str, value: str = "", *, required: bool = True, of: str = "question"
) -> str:
    filled = f" value={quoteattr(value)}" if value else ""
    return (
        f'  <Header value={quoteattr(title)}/>\n  <TextArea name="{name}" toName="shown_{of}"'
        f'{filled} rows="4" maxSubmissions="1" editable="true" required="{str(required).lower()}"/>'
    )


def _choices(name: str, title: str, values: Sequence[str]) -> str:
    choices = "".join(f"\n    <Choice value={quoteattr(value)}/>" for value in values)
    return (
        f'  <Header value={quoteattr(title)}/>\n  <Choices name="{name}" toName="shown_question"'
        f' choice="single" showInline="true" required="true">{choices}\n  </Choices>'
    )


def _number(name: str, title: str, of: str, *, least: int) -> str:
    return (
        f'  <Header value={quoteattr(title)}/>\n  <Number name="{name}" toName="shown_{of}"'
        f' min="{least}"/>'
    )
