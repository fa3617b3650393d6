"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from drenpa import __version__
from drenpa.core.errors import DrenpaError
from drenpa.core.languages import language_fault
from drenpa.core.text import shown
from drenpa.desk.commands import annotate, desk

if TYPE_CHECKING:
    from rich.console import Console

    from drenpa.config import Recipe
    from drenpa.pipeline import StageName

app = typer.Typer(
    name="drenpa",
    help="Make a small language model remember what matters, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

STOPPED = 130  # the exit status after Ctrl-C


def _language_codes(found: Any) -> Any:
    """Refuse what is no language's code, in an option that takes one or several."""
    for code in [found] if isinstance(found, str) else found or ():
        if code and (fault := language_fault(code)):
            raise typer.BadParameter(fault)
    return found


RecipeFile = Annotated[
    Path, typer.Argument(help="A recipe (YAML), or a shipped one's name.", metavar="RECIPE")
]
Overlay = Annotated[
    list[Path] | None, typer.Option("--overlay", "-o", help="YAML laid over the recipe, in order.")
]
Setting = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Set a value: seed=2, benchmark.samples=4.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the resolved recipe and what would run; do nothing.")
]
Strategy = Annotated[
    str | None, typer.Option("--strategy", help="Only this strategy of the recipe.")
]


def main() -> None:
    """Run the command line; errors a user can mend are printed without a traceback."""
    try:
        status = app(standalone_mode=False)  # of `typer.Exit`, and 130 of Ctrl-C
    except DrenpaError as error:
        print(f"drenpa: {shown(str(error))}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        if error.filename is None:
            raise
        print(f"drenpa: {shown(_unusable(error))}", file=sys.stderr)
        raise SystemExit(1) from None
    except (KeyboardInterrupt, typer.Abort):
        status = STOPPED
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")):  # a wrong option or argument
            error.show()  # type: ignore[attr-defined]
            raise SystemExit(getattr(error, "exit_code", 2)) from None
        raise
    if status == STOPPED:
        print("drenpa: stopped; run the same command again to go on", file=sys.stderr)
    if status:
        raise SystemExit(status)


def _unusable(error: OSError) -> str:
    """Say which file or folder could not be used, why, and what to do."""
    remedy = "check this path"
    if isinstance(error, FileExistsError | NotADirectoryError):
        remedy = "a file stands where a folder should; name another place"
    elif isinstance(error, FileNotFoundError):
        remedy = "give the path of one that is there"
    elif isinstance(error, IsADirectoryError):
        remedy = "this is a folder; name a file"
    elif isinstance(error, PermissionError):
        remedy = "change its permissions, or name another place"
    return f"{error.filename}: {(error.strerror or type(error).__name__).lower()}; {remedy}"


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Make a small language model remember what matters, and prove it."""
    if show:
        print(f"drenpa {__version__}")
        raise typer.Exit


@app.command()
def run(
    recipe: RecipeFile, overlay: Overlay = None, set_: Setting = None, dry_run: DryRun = False
) -> None:
    """Run a whole recipe, from files to report; what is done already is skipped."""
    _run_until("report", recipe, overlay, set_, dry_run, None)


@app.command()
def curate(
    recipe: RecipeFile, overlay: Overlay = None, set_: Setting = None, dry_run: DryRun = False
) -> None:
    """Read, check, clean and split the knowledge."""
    _run_until("curate", recipe, overlay, set_, dry_run, None)


@app.command()
def finetune(
    recipe: RecipeFile, overlay: Overlay = None, set_: Setting = None, dry_run: DryRun = False
) -> None:
    """Fine-tune the model on instructions and critiques."""
    _run_until("finetune", recipe, overlay, set_, dry_run, None)


class _TrainsByDefault(TyperGroup):
    """A group in which anything but a command's name or `--help` goes to the command `train`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `train` before a recipe or an option."""
        if args and args[0] not in (*self.commands, "--help"):
            args = ["train", *args]
        return super().parse_args(ctx, args)


critic_app = typer.Typer(
    cls=_TrainsByDefault, no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
app.add_typer(critic_app, name="critic")
CriticPlace = Annotated[
    Path, typer.Argument(help="A critic's artefact or folder.", metavar="CRITIC")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where the critic works.")
]


@critic_app.callback()
def critic() -> None:
    """Train the critic (drenpa critic RECIPE), or put a trained one to the test."""


@critic_app.command("train")
def critic_train(
    recipe: RecipeFile, overlay: Overlay = None, set_: Setting = None, dry_run: DryRun = False
) -> None:
    """Train the critic, and the plain scorer where a strategy needs it; may be left out."""
    _run_until("critic", recipe, overlay, set_, dry_run, None)


@critic_app.command("expand")
def critic_expand(
    recipe: RecipeFile, overlay: Overlay = None, set_: Setting = None, dry_run: DryRun = False
) -> None:
    """Write people's notes out as full critiques; --dry-run says what it would cost."""
    from drenpa.commands.expansion import expand_recipe
    from drenpa.config import load_recipe
    from drenpa.recipes import find_recipe

    console = _console()

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    settings = load_recipe(find_recipe(recipe), overlay or [], set_ or [])
    expand_recipe(settings, dry_run=dry_run, tell=tell)


@critic_app.command("eval")
def critic_eval(
    place: CriticPlace,
    pairs: Annotated[
        Path,
        typer.Argument(
            help="Pairs in JSON Lines, CSV or Parquet: question, answer_a, answer_b, preferred "
            "(a, b or tie); group, critique_a, critique_b where you have them."
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of the table.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder for eval.json and the plot.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Say how often a critic agrees with pairs that people judged, reading which critique."""
    import json

    from drenpa.commands.critic_trial import evaluate, print_evaluation, write_evaluation
    from drenpa.config import EngineConfig
    from drenpa.core.artefacts import refuse_artefact

    if out is not None:
        refuse_artefact(out)
    told = evaluate(place, pairs, engine=EngineConfig(device=device))
    if out is not None:
        write_evaluation(told, out)
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print_evaluation(told, _console())


@critic_app.command("card")
def critic_card(
    place: CriticPlace,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="Judged pairs, as for eval; default: the held-out rankings."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("critic-card"),
    questions: Annotated[int, typer.Option(min=0, help="Drawn by lot; 0 takes all.")] = 0,
    samples: Annotated[int, typer.Option(min=2, help="Critiques sampled for an answer.")] = 4,
    device: Device = "auto",
) -> None:
    """Say what takes a critic in, what its critiques are worth, and what a score costs."""
    from drenpa.commands.critic_trial import make_card, write_card
    from drenpa.config import EngineConfig
    from drenpa.core.artefacts import refuse_artefact

    refuse_artefact(out)
    engine = EngineConfig(device=device)
    told = make_card(place, pairs=pairs, questions=questions, samples=samples, engine=engine)
    write_card(told, out)
    print(out / "card.md")


@app.command()
def reinforce(
    recipe: RecipeFile,
    overlay: Overlay = None,
    set_: Setting = None,
    dry_run: DryRun = False,
    strategy: Strategy = None,
) -> None:
    """Align the model by reinforcement learning, one strategy or all."""
    _run_until("reinforce", recipe, overlay, set_, dry_run, strategy)


@app.command()
def memory(
    recipe: RecipeFile,
    overlay: Overlay = None,
    set_: Setting = None,
    dry_run: DryRun = False,
    strategy: Strategy = None,
) -> None:
    """Choose what is trained and what is stored, and after training look what was learned."""
    _run_until("memory", recipe, overlay, set_, dry_run, strategy)


@app.command()
def benchmark(
    recipe: RecipeFile,
    overlay: Overlay = None,
    set_: Setting = None,
    dry_run: DryRun = False,
    strategy: Strategy = None,
) -> None:
    """Let the strategies answer the held-out questions, and the judge score them."""
    _run_until("benchmark", recipe, overlay, set_, dry_run, strategy)


@app.command()
def report(
    places: Annotated[
        list[Path],
        typer.Argument(
            help="One recipe, or several runs' folders to pool (other seeds or models)."
        ),
    ],
    overlay: Overlay = None,
    set_: Setting = None,
    dry_run: DryRun = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where a pooled report goes.")] = None,
) -> None:
    """Write the report of a recipe, or one over several finished runs."""
    if len(places) == 1 and not places[0].is_dir():
        _run_until("report", places[0], overlay, set_, dry_run, None)
        return
    from drenpa.pipeline import pooled_report

    _summary(pooled_report(places, out or Path("runs/pooled")))


@app.command()
def show(
    folders: Annotated[list[Path], typer.Argument(help="Folders of artefacts or runs.")],
    rows: Annotated[int, typer.Option(help="How many rows of each table.")] = 3,
) -> None:
    """Say what is in a folder, where it came from, and its first rows."""
    from drenpa.commands.show import describe

    console = _console()
    for number, folder in enumerate(folders):
        if number:
            console.print()
        describe(folder, rows, console)


@app.command()
def diff(
    left: Annotated[Path, typer.Argument(help="A run's folder, or a benchmark's.")],
    right: Annotated[Path, typer.Argument(help="Another.")],
    items: Annotated[int, typer.Option(help="How many changed answers to print.")] = 10,
    json_: Annotated[bool, typer.Option("--json", help="Everything, every item, as JSON.")] = False,
) -> None:
    """Say item by item what changed between two runs: scores, answers, settings."""
    from drenpa.report.diff import compare_runs, diff_json, print_diff

    found = compare_runs(left, right)
    if json_:
        print(diff_json(found))
    else:
        print_diff(found, _console(), items=items)


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or a stage's, still training.")],
    recipe: Annotated[
        Path | None, typer.Option(help="Let this recipe's judge judge some sampled answers.")
    ] = None,
    set_: Setting = None,
    json_: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
) -> None:
    """Say whether the reward rises alone; the exit status is 3 where it does."""
    from drenpa.report.watch import print_watch, watch_folder, watch_json

    if recipe is None:
        found = watch_folder(folder)
    else:
        from drenpa.commands.watch import watch_with_judge
        from drenpa.config import load_recipe
        from drenpa.recipes import find_recipe

        found = watch_with_judge(folder, load_recipe(find_recipe(recipe), (), set_ or []))
    if json_:
        print(watch_json(found), end="")
    else:
        print_watch(found, _console())
    if any(stage.alarm for stage in found):
        raise SystemExit(3)


@app.command()
def chat(
    policy: Annotated[
        str, typer.Argument(help="A run's folder, a policy's, a model's, or a name.")
    ],
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="Ask once and stop.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    language: Annotated[
        str,
        typer.Option(
            help="Of the instruction: en, zh or bo; default: as it was trained.",
            callback=_language_codes,
        ),
    ] = "",
    memory: Annotated[
        bool, typer.Option(help="Look things up in the run's memory, if there is one.")
    ] = True,
) -> None:
    """Talk to a policy, and to its memory where it has one."""
    from drenpa.commands.chat import talk

    if question is None:
        print("Ask; an empty line ends.", file=sys.stderr)
    questions = iter(_asked, "") if question is None else [question]
    talk(
        policy,
        questions,
        temperature=temperature,
        language=language,
        with_memory=memory,
        go_on=question is None,
    )


@app.command()
def export(
    policy: Annotated[Path, typer.Argument(help="A policy's artefact.")],
    folder: Annotated[Path, typer.Argument(help="The folder to write.")],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="The adapter alone, instead of a merged model.")
    ] = False,
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="Of merged weights: float32, or bfloat16 at half the size."),
    ] = "float32",
    base: Annotated[
        str, typer.Option(help="What an adapter names as its base; default: the folder here.")
    ] = "",
) -> None:
    """Write a policy as an ordinary Hugging Face folder with a model card."""
    from drenpa.export import export_policy

    form: Literal["merged", "adapter"] = "adapter" if adapter else "merged"
    print(export_policy(policy, folder, form=form, dtype=dtype, base=base))


@app.command()
def fetch(
    urls: Annotated[Path, typer.Argument(help="Web addresses, one a line.", metavar="URLS")],
    folder: Annotated[Path, typer.Argument(help="Where the pages go.")],
    contact: Annotated[str, typer.Option(help="An address that the owner of a site can write to.")],
    delay: Annotated[float, typer.Option(help="Seconds between two requests to one site.")] = 2.0,
) -> None:
    """Fetch web pages politely into a folder; run again to go on."""
    from drenpa.corpus.fetch import Manners, fetch_list

    if not fetch_list(urls, folder, Manners(contact=contact, delay_s=delay), say=print):
        raise typer.Exit(1)


@app.command()
def deduplicate(
    files: Annotated[list[Path], typer.Argument(help="JSON Lines: pages, drafts or records.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder.")],
    threshold: Annotated[float, typer.Option(min=0.3, max=1, help="Of similarity.")] = 0.8,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Processes here, or a Ray cluster.")
    ] = "local",
    workers: Annotated[int, typer.Option(help="Processes; 0 is one for each core.")] = 0,
) -> None:
    """Keep one of each group of near-duplicates, in files of any size."""
    from drenpa.corpus.stream import deduplicate_files

    found = deduplicate_files(files, out, threshold=threshold, engine=engine, workers=workers)
    print(
        f"{found.rows} rows: {found.kept} kept, {found.exact} exact and {found.near} near copies "
        f"in {found.clusters} groups, {len(found.faults)} lines that are no rows"
    )
    print(f"{out}: rows.jsonl, clusters.jsonl, faults.txt")


@app.command()
def release(
    corpus: Annotated[Path, typer.Argument(help="A corpus artefact, or a run's folder.")],
    facts: Annotated[Path, typer.Argument(help="What the card must say (YAML).")],
    out: Annotated[Path, typer.Option("--out", help="The dataset folder to write.")],
    private: Annotated[
        Path, typer.Option("--private", help="Where key and test answers go; never publish it.")
    ],
    key_of: Annotated[
        Path | None, typer.Option("--key-of", help="An earlier version's private file.")
    ] = None,
) -> None:
    """Write a corpus as a dataset to publish, its test answers withheld."""
    from drenpa.corpus.facts import read_facts
    from drenpa.corpus.release import corpus_at, write_release
    from drenpa.corpus.withheld import read_private

    key = read_private(key_of).key if key_of else b""
    counts = write_release(corpus_at(corpus), out, private, read_facts(facts), key=key)
    print(f"{out}: {', '.join(f'{count} {split}' for split, count in counts.items())}")
    print(f"{private}: the test answers and their key; keep it to yourself")


@app.command("score-hidden")
def score_hidden(
    predictions: Annotated[Path, typer.Argument(help="A file of rows with id and answer.")],
    answers: Annotated[Path, typer.Option("--answers", help="The release's private file.")],
    submitter: Annotated[str, typer.Option("--submitter", help="Who submits; for the log.")],
    log: Annotated[
        Path | None, typer.Option("--log", help="Of submissions; default: beside the answers.")
    ] = None,
) -> None:
    """Score predictions against withheld answers; tell overall figures only, and log it."""
    from drenpa.corpus.hidden import score_hidden, shown

    print("\n".join(shown(score_hidden(predictions, answers, submitter=submitter, log=log))))


@app.command()
def clean(
    places: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders or hf://datasets/OWNER/NAME with pages, then the new folder.",
            metavar="PAGES... FOLDER",
        ),
    ],
    rules: Annotated[
        Path | None, typer.Option(help="Where the parts of known sites' pages stand (YAML).")
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(
            help="Keep pages in this language only: bo, dz, zh, en, …", callback=_language_codes
        ),
    ] = None,
    personal: Annotated[
        Literal["flag", "scrub", "drop", "keep"],
        typer.Option(help="What to do with e-mail addresses, telephone numbers and the like."),
    ] = "flag",
    shortest: Annotated[int, typer.Option(help="Drop pages of fewer letters.")] = 1,
    profile: Annotated[
        list[Path] | None, typer.Option(help="Of a language that is not known here (YAML).")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="A table's own column: text=body, id=key, …")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Processes here, or a Ray cluster.")
    ] = "local",
    workers: Annotated[int, typer.Option(help="Processes; 0 is one for each core.")] = 0,
) -> None:
    """Take clean text out of web pages, and say what was dropped and why."""
    from drenpa.corpus.clean_pages import Cleaning, clean_told
    from drenpa.corpus.html import load_rules
    from drenpa.corpus.language import read_profile

    cleaning = Cleaning(
        rules=load_rules(rules) if rules else (),
        languages=tuple(language or ()),
        personal=personal,
        shortest=shortest,
        profiles=tuple(read_profile(path) for path in profile or ()),
    )
    clean_told(places, cleaning, columns=column or (), workers=workers, say=print, engine=engine)


adapter_app = typer.Typer(
    name="adapter", help="Run the benchmark in other harnesses.", no_args_is_help=True
)
app.add_typer(adapter_app)


@adapter_app.command("write")
def adapter_write(
    recipe: RecipeFile,
    folder: Annotated[Path, typer.Argument(help="The folder to write.")],
    overlay: Overlay = None,
    set_: Setting = None,
) -> None:
    """Write a recipe's benchmark as a folder that lm-eval, inspect and OpenCompass run."""
    from drenpa.adapters.bench_folder import write_bench
    from drenpa.config import load_recipe
    from drenpa.pipeline import run_recipe
    from drenpa.recipes import find_recipe

    resolved = load_recipe(find_recipe(recipe), overlay or [], set_ or [])
    made = run_recipe(resolved, until="curate", tell=lambda line: print(line, file=sys.stderr))
    print(write_bench(resolved, made["curate"], folder).folder)


@adapter_app.command("read")
def adapter_read(
    folder: Annotated[Path, typer.Argument(help="What `adapter write` wrote.")],
    results: Annotated[Path, typer.Argument(help="What the harness wrote: a log or a folder.")],
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Where the verdicts go.")],
    strategy: Annotated[str, typer.Option(help="The column's name in the report.")],
    model: Annotated[str, typer.Option(help="The model's name in the report.")],
    seed: Annotated[int, typer.Option(help="Of the answers.")] = 1,
) -> None:
    """Read a harness's results as verdicts, which `drenpa report RUN RUN` takes beside others."""
    from drenpa.adapters.results import read_results

    print(read_results(folder, results, run_folder, strategy=strategy, model=model, seed=seed).path)


@adapter_app.command("log")
def adapter_log(
    verdicts: Annotated[Path, typer.Argument(help="A benchmark's artefact.")],
    file: Annotated[Path, typer.Argument(help="The log to write, .eval or .json.")],
) -> None:
    """Write a benchmark's verdicts as a log of inspect's, for `inspect view`."""
    from drenpa.adapters.results import write_inspect_log

    print(write_inspect_log(verdicts, file))


@app.command()
def push(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="ARTEFACT", help="A policy, critic, report, or what export or release wrote."
        ),
    ],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go out; ask the hub nothing.")
    ] = False,
    base: Annotated[
        str, typer.Option(help="Repository of the fine-tuned model under an adapter or a critic.")
    ] = "",
    adapter: Annotated[
        bool, typer.Option("--adapter", help="A policy's adapter alone, not a merged model.")
    ] = False,
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Of merged weights.")
    ] = "float32",
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; default: private.")
    ] = False,
) -> None:
    """Push to the Hugging Face Hub; withheld answers stay here."""
    from drenpa.adapters.hub import listing, parcel
    from drenpa.adapters.hub import push as push_to

    if dry_run:
        with parcel(place, base=base, adapter=adapter, dtype=dtype) as ready:
            for line in listing(ready, repo):
                print(line)
        return
    for line in push_to(place, repo, base=base, adapter=adapter, dtype=dtype, public=public):
        print(line)


@app.command()
def pull(
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face Hub.")],
    folder: Annotated[Path, typer.Argument(help="The folder to write.")],
    dataset: Annotated[bool, typer.Option("--dataset", help="A dataset or a report.")] = False,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
) -> None:
    """Fetch what `push` pushed: a model or critic, or with --dataset a dataset or report."""
    from drenpa.adapters.hub import pull as pull_from

    kind: Literal["model", "dataset"] = "dataset" if dataset else "model"
    print(pull_from(repo, folder, repo_type=kind, revision=revision))


@app.command()
def kinds(
    labelled: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Records whose kinds people decided; --llm needs none.", metavar="[RECORDS]..."
        ),
    ] = None,
    items: Annotated[Path | None, typer.Option(help="Rows to suggest kinds for.")] = None,
    out: Annotated[Path | None, typer.Option(help="The suggestions, as JSON Lines.")] = None,
    llm: Annotated[
        str, typer.Option(help="Ask this language model, instead of training a classifier.")
    ] = "",
    base_url: Annotated[str, typer.Option(help="Its server; default: the client's own.")] = "",
    key_env: Annotated[
        str, typer.Option(help="The environment variable that holds the key.")
    ] = "OPENAI_API_KEY",
    language: Annotated[
        str, typer.Option(help="Of the prompt: en or zh.", callback=_language_codes)
    ] = "en",
    workers: Annotated[int, typer.Option(help="Requests at a time.", min=1)] = 4,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what asking would take, and ask nothing.")
    ] = False,
) -> None:
    """Say what a classifier, or a language model, makes of people's kinds, and suggest."""
    if not llm:
        from drenpa.corpus.kinds import tell_kinds

        tell_kinds(labelled or (), items, out, say=print)
        return
    from drenpa.core.endpoint import Endpoint
    from drenpa.corpus.ask_kinds import Asking, tell_asked_kinds

    asking = Asking(Endpoint(llm, base_url=base_url, key_env=key_env), language, workers)
    if tell_asked_kinds(labelled or (), items, out, asking, say=print, dry_run=dry_run):
        raise typer.Exit(1)


@app.command()
def doctor(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe to size up.")] = None,
    overlay: Overlay = None,
    set_: Setting = None,
) -> None:
    """Say what this machine has, what is installed, and what a recipe will need."""
    from drenpa.commands.doctor import examine
    from drenpa.core.errors import ConfigError
    from drenpa.recipes import find_recipe

    if recipe is None and (overlay or set_):
        raise ConfigError("--overlay and --set change a recipe; name the one to size up")
    place = find_recipe(recipe) if recipe else None
    if not examine(place, _console(), overlay or [], set_ or []):
        raise typer.Exit(1)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder for your own data.")] = Path(
        "my-field"
    ),
) -> None:
    """Make a commented recipe and a folder for your own data."""
    from drenpa.commands.init import make_project

    make_project(folder, _console())


judges = typer.Typer(
    name="judge", help="Examine judges, and let people judge.", no_args_is_help=True
)
app.command()(desk)
app.add_typer(annotate)
app.add_typer(judges)


@judges.command("card")
def judge_card(
    recipe: RecipeFile,
    overlay: Overlay = None,
    set_: Setting = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Default: judge-card in the run.")
    ] = None,
    questions: Annotated[int, typer.Option(help="With ranked answers, to examine it on.")] = 24,
    against: Annotated[
        Path | None, typer.Option("--against", help="An older card: has the judge drifted?")
    ] = None,
) -> None:
    """Find out what the recipe's judge notices, and whether it has changed."""
    from drenpa.commands.judge_card import write_judge_cards
    from drenpa.config import load_recipe
    from drenpa.core.artefacts import refuse_artefact
    from drenpa.recipes import find_recipe

    read = load_recipe(find_recipe(recipe), overlay or [], set_ or [])
    place = out or read.folder / "judge-card"
    refuse_artefact(place)
    for page in write_judge_cards(read, place, questions=questions, against=against):
        print(page.read_text(encoding="utf-8"))
        print(page, file=sys.stderr)


@judges.command("form")
def judge_form(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run with a benchmark.")],
    out: Annotated[Path, typer.Argument(help="The folder for form.csv and form.html.")],
    questions: Annotated[int, typer.Option(help="How many, with all answers; 0: all.")] = 0,
    language: Annotated[
        str, typer.Option(help="Of the form: en, zh or bo.", callback=_language_codes)
    ] = "en",
) -> None:
    """Write a blind form on which people score a run's answers."""
    from drenpa.judge.people import run_verdicts, sheets_of, write_forms

    for file in write_forms(sheets_of(run_verdicts(run_folder), questions), out, language):
        print(file)


@judges.command("take")
def judge_take(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run the form is of.")],
    forms: Annotated[list[str], typer.Argument(help="Filled forms, each as PERSON=FILE.")],
    out: Annotated[Path, typer.Option("--out", help="The recording to write.")] = Path(
        "people.jsonl"
    ),
) -> None:
    """Read filled forms back; what people said is then a judge like any other."""
    from drenpa.judge.people import named_forms, run_verdicts, take_forms
    from drenpa.judge.recorded import write_recording

    count = write_recording(out, take_forms(named_forms(forms), run_verdicts(run_folder)))
    print(
        f"{out}: {count} verdicts of people; judge with them: "
        f"--set 'benchmark.judge={{name: recorded, file: {out}}}'"
    )


@judges.command("record")
def judge_record(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run with a benchmark.")],
    out: Annotated[Path, typer.Argument(help="The recording to write, JSON Lines.")],
) -> None:
    """Write down a run's verdicts, to be replayed without a judge."""
    from drenpa.judge.people import run_verdicts
    from drenpa.judge.recorded import recording_of, write_recording

    print(f"{out}: {write_recording(out, recording_of(run_verdicts(run_folder)))} verdicts")


def _run_until(
    until: StageName,
    path: Path,
    overlays: list[Path] | None,
    settings: list[str] | None,
    dry_run: bool,
    strategy: str | None,
) -> None:
    from drenpa.config import load_recipe
    from drenpa.recipes import find_recipe

    recipe = load_recipe(find_recipe(path), overlays or [], settings or [])
    if dry_run:
        _dry_run(recipe, until, strategy)
        return
    from drenpa.pipeline import run_recipe

    console = _console()
    first = os.environ.get("RANK", "0") == "0"

    def tell(line: str) -> None:
        if first:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    made = run_recipe(recipe, until=until, strategy=strategy, tell=tell)
    if until == "report" and first:
        _summary(made["report"])


def _dry_run(recipe: Recipe, until: StageName, strategy: str | None) -> None:
    import yaml

    from drenpa.pipeline import foretell
    from drenpa.preflight import check_recipe

    print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    ahead = set()
    for told in foretell(recipe, until=until, strategy=strategy):
        if told.state != "done":
            ahead.add(told.step.stage)
        place = str(told.folder) if told.folder else f"after {', '.join(told.step.needs)}"
        print(f"{told.state:9} {told.step.name:32} {place}")
    if until in ("benchmark", "report"):
        from drenpa.commands.power import benchmark_items, foresee, power_text

        print(power_text(foresee(recipe, benchmark_items(recipe.corpus))))
    check_recipe(recipe, ahead)


def _summary(artefact: Any) -> None:
    from drenpa.report.build import print_summary

    print_summary(artefact, _console())


def _asked() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120)
