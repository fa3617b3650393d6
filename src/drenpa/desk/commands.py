"""The commands around an annotation store: `drenpa desk` and the group `drenpa annotate`.

Each imports what it needs when it runs.
"""

from __future__ import annotations

import getpass
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from drenpa.corpus.exchange import Outcome

annotate = typer.Typer(
    name="annotate",
    help="Take questions and answers through three rounds of people.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

SHOWN = 20  # ids in a line

StoreFile = Annotated[Path, typer.Argument(help="The store; it is made if need be.")]
OldStore = Annotated[Path, typer.Argument(help="The store.", exists=True, dir_okay=False)]
PhaseName = Literal["question", "answer", "audit", "adjudication", "accepted", "rejected"]
PhaseOption = Annotated[
    PhaseName, typer.Option(help="accepted: ranking of candidate answers; rejected: repair.")
]
Actor = Annotated[str, typer.Option("--by", help="Who does it; default: your login name.")]


def desk(
    store: StoreFile,
    drafts: Annotated[list[Path] | None, typer.Option(help="Bring a file of items in.")] = None,
    person: Annotated[
        list[str] | None, typer.Option(help="Make a personal link; may be repeated.")
    ] = None,
    port: int = 8765,
    bind: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    host: Annotated[
        str, typer.Option(help="The name that others reach it by; links begin with http:// and it.")
    ] = "",
) -> None:
    """Serve the annotation desk on this machine, and print the links that open it."""
    from drenpa.core.errors import DrenpaError

    try:
        from drenpa.desk.app import serve
    except ImportError as error:
        raise DrenpaError("the desk needs an extra: pip install 'drenpa[desk]'") from error
    serve(store, drafts=drafts or (), port=port, people=person or (), bind=bind, host=host)


@annotate.command()
def add(
    store: StoreFile,
    files: Annotated[list[Path], typer.Argument(help="Items, or answers to be ranked.")],
    gold: Annotated[
        bool, typer.Option("--gold", help="They are control items with known ratings.")
    ] = False,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="They are answers to items in the store.")
    ] = False,
    min_median: Annotated[
        float, typer.Option(help="What the median of each score must reach, 0 to 2.")
    ] = 1.0,
    min_mean: Annotated[
        float, typer.Option(help="What the mean of all scores must reach, 0 to 2.")
    ] = 1.0,
    by: Actor = "",
) -> None:
    """Bring items in; those already in the store are passed over, and told where they differ."""
    from drenpa.corpus.annotate import Store, read_drafts, read_gold
    from drenpa.corpus.audit import AcceptanceRule
    from drenpa.corpus.exchange import take_candidates

    with Store(store) as opened:
        if candidates:
            refused = False
            for file in files:
                refused |= _tell(file, take_candidates(opened, file, _name(by)), "candidates")
            if refused:
                raise typer.Exit(1)
            return
        if gold:
            controls = [draft for file in files for draft in read_gold(file)]
            new = opened.add_gold(controls, actor="import")
            print(f"{new} control items are new, {len(controls) - new} were there")
            _tell_changed(opened.changed(controls))
            return
        items = [draft for file in files for draft in read_drafts(file)]
        new = opened.add(items, actor="import", rule=AcceptanceRule(min_median, min_mean))
        print(f"{new} items are new, {len(items) - new} were there")
        _tell_changed(opened.changed(items))


@annotate.command()
def suggest(
    store: OldStore,
    files: Annotated[
        list[Path] | None, typer.Argument(help="What `drenpa kinds` wrote; none: see below.")
    ] = None,
    by: Actor = "",
) -> None:
    """Suggest kinds for the items of round 1; people decide them.

    Without files a classifier is trained on the items that were accepted.
    """
    from drenpa.corpus.annotate import Store
    from drenpa.corpus.kinds import suggest_from_accepted, take_suggestions

    refused = False
    with Store(store) as opened:
        found = [take_suggestions(opened, file, _name(by)) for file in files or ()]
        found = found or [suggest_from_accepted(opened, _name(by), say=print)]
    for taken in found:
        print(
            f"{taken.taken} items stand with these suggestions, {taken.decided} are decided "
            f"already, {taken.empty} lines suggest nothing, {len(taken.refused)} refused"
        )
        for line in taken.refused:
            print(line, file=sys.stderr)
        refused |= bool(taken.refused)
    if refused:
        raise typer.Exit(1)


@annotate.command()
def assign(
    store: OldStore,
    people: Annotated[list[str], typer.Argument(help="Everybody who takes part.")],
    phase: PhaseOption,
    orders: Annotated[int, typer.Option(help="Rankings of each item.", min=1)] = 1,
    by: Actor = "",
) -> None:
    """Share the open items of a phase out evenly; again after a change, to complete it."""
    from drenpa.corpus.annotate import Store
    from drenpa.corpus.assign import assign as share_out

    with Store(store) as opened:
        sharing = share_out(opened, people, phase, actor=_name(by), orders=orders)
    print(f"{sharing.assigned} items assigned anew")
    for name, load in sharing.load.items():
        print(f"{load:6} {name}")
    if sharing.short:
        print(f"too few may work on {len(sharing.short)} items: {', '.join(sharing.short[:5])}")


@annotate.command()
def export(
    store: OldStore,
    file: Annotated[Path, typer.Argument(help=".csv, .xlsx, .jsonl; .json for Label Studio.")],
    person: Annotated[str, typer.Option(help="Who will do the work.")],
    phase: PhaseOption,
    count: Annotated[int | None, typer.Option(help="At most so many items.", min=1)] = None,
) -> None:
    """Write a sheet of items for one person to work on offline, or tasks for Label Studio."""
    from drenpa.core.artefacts import refuse_existing
    from drenpa.corpus.annotate import Store
    from drenpa.corpus.exchange import write_sheet
    from drenpa.corpus.label_studio import write_tasks

    is_project = file.suffix.lower() == ".json"
    for target in (file, file.with_suffix(".xml")) if is_project else (file,):
        refuse_existing(target, "file")
    with Store(store) as opened:
        write = write_tasks if is_project else write_sheet
        print(f"{write(opened, file, person, phase, count=count)} items in {file}")


@annotate.command(name="import")
def import_(
    store: OldStore,
    files: Annotated[list[Path], typer.Argument(help="Filled sheets, or Label Studio exports.")],
) -> None:
    """Take work that was done offline; what is refused is told by line."""
    from drenpa.corpus.annotate import Store
    from drenpa.corpus.exchange import take_sheet
    from drenpa.corpus.label_studio import take_export

    refused = False
    with Store(store) as opened:
        for file in files:
            take = take_export if file.suffix.lower() == ".json" else take_sheet
            refused |= _tell(file, take(opened, file), "items")
    if refused:
        raise typer.Exit(1)


@annotate.command()
def status(store: OldStore) -> None:
    """Say how many items are in which phase, and who has how many to do."""
    from drenpa.corpus.annotate import Store
    from drenpa.corpus.rounds import PHASES, may_work

    with Store(store) as opened:
        items = opened.items()
    for phase in PHASES:
        here = [item for item in items if item.phase == phase and not item.gold]
        waiting = Counter(
            name for item in here for name in item.assigned.get(phase, ()) if may_work(item, name)
        )
        told = ", ".join(f"{name} {count}" for name, count in sorted(waiting.items()))
        print(f"{len(here):6} {phase:13} {told}".rstrip())
    print(f"{sum(item.gold is not None for item in items):6} control items")


@annotate.command()
def audit(
    store: OldStore,
    tokenizer: Annotated[
        str, typer.Option(help="Count tokens as this model does: a folder or a name.")
    ] = "",
    limit: Annotated[int, typer.Option(help="Tokens of a training row.", min=1)] = 1024,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file too.")] = None,
) -> None:
    """Print how well the raters agree, how each of them works, and which kinds are in doubt."""
    from drenpa.core.artefacts import write_text
    from drenpa.corpus.annotate import Store, accepted_records
    from drenpa.corpus.audit_report import audit_store
    from drenpa.corpus.lengths import measure_lengths, row_counter

    with Store(store) as opened:
        lengths = {}
        if tokenizer:
            count = row_counter(tokenizer)
            lengths = measure_lengths(accepted_records(opened.items()), count, limit=limit)
        found = audit_store(opened, lengths=lengths, limit=limit)
    if json:
        write_text(json, found.to_json() + "\n")
    print(found.to_markdown(), end="")


@annotate.command()
def release(
    store: OldStore,
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
) -> None:
    """Write accepted records and rankings for `drenpa curate`, ratings, and the whole history."""
    from drenpa.core.artefacts import refuse_existing, whole_folder
    from drenpa.corpus.annotate import Store
    from drenpa.corpus.annotate import export as write_files

    refuse_existing(folder)
    with Store(store) as opened, whole_folder(folder) as part:
        written = write_files(opened, part)
    for name, rows in written.items():
        print(f"{rows:6} {folder / name}")


@annotate.command()
def restore(
    store: StoreFile,
    history: Annotated[Path, typer.Argument(help="A `history.jsonl` that `release` wrote.")],
) -> None:
    """Build a new store from the history of another."""
    from drenpa.corpus.annotate import Store, read_history

    events = read_history(history)
    with Store(store) as opened:
        opened.restore(events)
        print(f"{len(opened.items())} items from {len(events)} events")


def _tell(file: Path, outcome: Outcome, what: str) -> bool:
    """Print what became of a file; return whether anything was refused."""
    waiting = f", {outcome.waiting} not done yet" if outcome.waiting else ""
    print(f"{file}: {outcome.taken} {what} taken{waiting}, {len(outcome.refused)} refused")
    for line in outcome.refused:
        print(line, file=sys.stderr)
    return bool(outcome.refused)


def _tell_changed(names: Sequence[str]) -> None:
    """Say which items stay as they came in, though the file now says otherwise."""
    if names:
        shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        print(
            f"{len(names)} of these say otherwise now and stay as they came in: {shown}; change "
            "them in the rounds, or give them new ids",
            file=sys.stderr,
        )


def _name(by: str) -> str:
    from drenpa.core.errors import DrenpaError

    try:
        return by.strip() or getpass.getuser()
    except (KeyError, OSError) as error:
        raise DrenpaError("you have no login name here; say who you are with --by") from error
