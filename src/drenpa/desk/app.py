"""The annotation desk: plain pages and forms over the rounds of `corpus.rounds`.

It serves this machine alone unless host names are given, opens to whoever has a link (`access`),
takes forms only from its own pages, and runs no script. With a personal link one works under that
name alone; with the link for anyone, people say who they are and are believed. The rules are not
here: every step goes through the store, and what it refuses is shown beside what was typed.
"""

from __future__ import annotations

import contextlib
import socket
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.staticfiles import StaticFiles

from drenpa.core.errors import DrenpaError
from drenpa.core.knowledge import KINDS, STABILITIES
from drenpa.corpus.annotate import Store, exported_lines, read_drafts
from drenpa.corpus.audit import ASPECTS
from drenpa.corpus.clean import clean_text
from drenpa.corpus.rounds import (
    PHASES,
    Action,
    ConflictError,
    Event,
    Item,
    RuleError,
    check_undo,
    may_work,
    replayed,
    standing,
)
from drenpa.desk.access import holds, host_name, key_of, links

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PAGE = 50  # items on a page of the list
MAX_FORM_BYTES = 2**20
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Form = Mapping[str, str]
_FOLDER = Path(__file__).parent


async def _form_of(request: Request) -> Form:
    form = await request.form(max_files=0)
    return {name: value for name, value in form.items() if isinstance(value, str)}


TypedForm = Annotated[Form, Depends(_form_of)]


def create_app(
    store_path: Path | str, *, hosts: Sequence[str] = LOOPBACK, key: bytes = b""
) -> FastAPI:
    """Return the desk over the store at `store_path`, which is made if it is not there.

    hosts: the names under which the desk may be asked for; a request to any other is refused, so
           that no page elsewhere can reach it through a name that points here.
    key:   makes the links that open the desk (`access.key_of`); without one it is open to all who
           reach it.
    """
    names = tuple(name.lower() for name in hosts)
    store = Store(store_path)
    pages = Environment(
        loader=PackageLoader("drenpa.desk"), autoescape=True, undefined=StrictUndefined
    )

    @asynccontextmanager
    async def closing(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = FastAPI(
        title="drenpa desk", docs_url=None, redoc_url=None, openapi_url=None, lifespan=closing
    )
    app.mount("/static", StaticFiles(directory=_FOLDER / "static"))

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        refusal = _refusal(request, names)
        response: Response
        if refusal:
            response = PlainTextResponse(*refusal)
        elif key and "pass" in request.query_params:
            response = _let_in(request, key)
        elif key and not _has_pass(request, key):
            response = PlainTextResponse("Open the desk by the link that was given to you.\n", 403)
        else:
            response = await answer(request)
        response.headers.update(_HEADERS)
        return response

    def page(name: str, request: Request, status: int = 200, **values: Any) -> HTMLResponse:
        person = _person(request)
        text = pages.get_template(name).render(
            person=person,
            own_link=_linked(request),
            kinds=KINDS,
            stabilities=STABILITIES,
            aspects=ASPECTS,
            **values,
        )
        return HTMLResponse(text, status)

    def item_page(
        request: Request,
        item: Item,
        *,
        typed: Form | None = None,
        fault: str = "",
        status: int = 200,
    ) -> HTMLResponse:
        person = _person(request)
        history = store.history(item.id)
        blind = item.is_hidden_from(person)
        undoable = _undoable(item, history, person)
        return page(
            "item.html",
            request,
            status,
            item=item,
            seen=store.stamp(item.id, item.version),
            typed=typed or {},
            fault=fault,
            may_work=bool(person) and may_work(item, person),
            ratings=item.visible_ratings(person),
            own_order={e.candidate: e for e in item.orders[person].ranks}
            if person in item.orders
            else {},
            blind=blind,
            history=[
                _told(event, person)
                for event in reversed(history)
                if event.actor == person or not blind
            ],
            undoable=store.stamp(item.id, undoable) if undoable else "",
        )

    @app.get("/")
    def overview(request: Request, phase: str = "", start: int = 0) -> HTMLResponse:
        items = store.items()
        shown = [item for item in items if not phase or item.phase == phase]
        start = max(0, start)
        return page(
            "list.html",
            request,
            counts={name: sum(item.phase == name for item in items) for name in PHASES},
            total=len(items),
            phase=phase,
            items=shown[start : start + PAGE],
            start=start,
            more=start + PAGE if start + PAGE < len(shown) else None,
            before=max(0, start - PAGE) if start else None,
        )

    @app.post("/name")
    def say_name(request: Request, form: TypedForm) -> Response:
        if _linked(request):
            return page("fault.html", request, 403, fault="This link is of one person only.")
        response = RedirectResponse("/", 303)
        name = quote(clean_text(form.get("name", ""))[:80])
        response.set_cookie("person", name, httponly=True, samesite="strict")
        return response

    @app.get("/next")
    def next_item(request: Request, phase: str) -> RedirectResponse:
        person = _person(request)
        found = store.next_item(person, phase) if person and phase in PHASES else None
        place = (
            f"/item?{urlencode({'id': found.id})}" if found else f"/?{urlencode({'phase': phase})}"
        )
        return RedirectResponse(place, 303)

    @app.get("/item")
    def show_item(request: Request, id: str) -> HTMLResponse:  # noqa: A002 - the address says id
        try:
            return item_page(request, store.item(id))
        except RuleError as error:
            return page("fault.html", request, 404, fault=str(error))

    @app.post("/item/{action}")
    def step(request: Request, action: str, id: str, form: TypedForm) -> Response:  # noqa: A002
        if action not in get_args(Action):
            return page("fault.html", request, 404, fault=f"no step is called {action}")
        try:
            item = store.item(id)
            content = (
                {"version": store.version_of(id, form.get("version", ""))}
                if action == "undo"
                else _content(action, form, item)
            )
            seen = store.version_of(id, form.get("seen", ""))
            store.act(id, action, _person(request), content, seen=seen)  # type: ignore[arg-type]
        except DrenpaError as error:
            status = 503  # the store cannot be written
            if isinstance(error, RuleError):
                status = 409 if isinstance(error, ConflictError) else 400
            try:
                return item_page(
                    request, store.item(id), typed=form, fault=str(error), status=status
                )
            except RuleError:
                return page("fault.html", request, 404, fault=str(error))
        return RedirectResponse(f"/item?{urlencode({'id': id})}", 303)

    @app.get("/export/{name}")
    def exported(request: Request, name: str) -> Response:
        if _linked(request):
            fault = (
                "Exports tell everybody's orders, so this link does not open them; whoever runs "
                "the desk has them from drenpa annotate release."
            )
            return page("fault.html", request, 403, fault=fault)
        files = exported_lines(store.items())
        if name not in files:
            return page("fault.html", request, 404, fault=f"there is no file {name}")
        return PlainTextResponse(
            "".join(line + "\n" for line in files[name]),
            media_type="application/jsonl; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    return app


def serve(
    store_path: Path | str,
    *,
    drafts: Sequence[Path | str] = (),
    port: int = 8765,
    people: Sequence[str] = (),
    bind: str = LOOPBACK[0],
    host: str = "",
    tell: Callable[[str], object] = partial(print, flush=True),  # noqa: B008 - it has no state
) -> None:
    """Serve the desk until it is stopped, after bringing the drafts in; tell its links.

    drafts: files of items for the rounds; those already in the store are passed over.
    people: each gets a link of their own; without any there is one link for everybody.
    bind:   the address to listen on, by default this machine's own.
    host:   the name under which others reach the desk, where `bind` is not this machine's own.
    raises: DataError with every fault in the files; DrenpaError when `host` is no host name, or
            nothing can listen at that address and port.
    """
    import uvicorn

    name = host_name(host) if host else LOOPBACK[0]
    with _listening(bind, port) as listening:
        rows = [draft for path in drafts for draft in read_drafts(path)]
        if rows:
            with Store(store_path) as store:
                store.add(rows, actor="import")
        key = key_of(Path(store_path))
        app = create_app(store_path, hosts=(*LOOPBACK, name), key=key)
        address = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
        for person, link in links(key, address, people):
            tell(f"{person}: {link}" if person else link)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listening])


def _listening(bind: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        return socket.create_server((bind, port), family=family)
    except (OSError, OverflowError) as error:
        told = getattr(error, "strerror", None) or "a port is a number up to 65535"
        raise DrenpaError(
            f"--port {port} --bind {bind}: {told.lower()}; choose another port, or another address"
        ) from error


def _let_in(request: Request, key: bytes) -> Response:
    """Take the pass of a link into a cookie and show the desk, or refuse it."""
    person, given = request.query_params.get("person", ""), request.query_params["pass"]
    if not holds(key, person, given):
        return PlainTextResponse("This link does not open the desk; ask for a new one.\n", 403)
    response = RedirectResponse("/", 303)
    # lax, so that a link in a message opens the desk; forms are checked for their origin
    response.set_cookie("pass", f"{quote(person)}:{given}", httponly=True, samesite="lax")
    return response


def _has_pass(request: Request, key: bytes) -> bool:
    person, _, given = request.cookies.get("pass", "").rpartition(":")
    return holds(key, unquote(person), given)


def _linked(request: Request) -> str:
    """The name of a personal link, which was checked when the request came in."""
    return unquote(request.cookies.get("pass", "").rpartition(":")[0])


def _refusal(request: Request, hosts: Sequence[str]) -> tuple[str, int] | None:
    """Why a request is not answered: another host name, a form from elsewhere, or too large."""
    host = request.headers.get("host", "")
    named = _split(f"//{host}")
    if named is None or named.hostname not in hosts:
        return "This desk is not served under that name.\n", 421
    if request.method in ("GET", "HEAD"):
        return None
    origin = request.headers.get("origin") or request.headers.get("referer", "")
    page = _split(origin)
    if page is None or page.netloc != host:
        return "Forms are taken from this desk's own pages only.\n", 403
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > MAX_FORM_BYTES:
        return "The form is too large.\n", 413
    return None


def _split(address: str) -> SplitResult | None:
    """The parts of an address that came with a request; None when it is malformed."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def _person(request: Request) -> str:
    return (_linked(request) or unquote(request.cookies.get("person", ""))).strip()


def _content(action: str, form: Form, item: Item) -> dict[str, Any]:
    """The fields of an action from those of its form; the store checks them."""
    texts = {name: clean_text(value) for name, value in form.items()}
    if action == "add_candidate":
        taken = {candidate.id for candidate in item.candidates}
        free = (name for name in string.ascii_lowercase if name not in taken)
        return {"id": next(free, str(len(taken) + 1)), "answer": texts.get("answer", "")}
    if action == "rank":
        return {
            "ranks": [
                {
                    "candidate": candidate.id,
                    "rank": texts.get(f"rank-{candidate.id}", ""),
                    "note": texts.get(f"note-{candidate.id}", ""),
                }
                for candidate in item.candidates
            ]
        }
    content: dict[str, Any] = {name: value for name, value in texts.items() if name != "seen"}
    if action == "rate":
        content["agrees"] = content.get("agrees") == "yes"
    return content


def _undoable(item: Item, history: Sequence[Event], person: str) -> int | None:
    """The version that the person's last step made, if they can take it back."""
    own = [event for event in standing(history) if event.actor == person]
    if not own:
        return None
    try:
        trial = {"version": own[-1].version}
        check_undo(item, history, own[-1].version)
        replayed([*history, Event(0, item.id, item.version + 1, "undo", person, "", trial)])
    except RuleError:
        return None
    return own[-1].version


def _told(event: Event, person: str) -> dict[str, Any]:
    """An event as the history shows it; the orders of other annotators stay hidden."""
    hidden = event.actor != person and event.action == "rank"
    values = event.content.get("draft", event.content)
    return {
        "version": event.version,
        "action": event.action.replace("_", " "),
        "actor": event.actor,
        "at": event.at,
        "values": {} if hidden else {k: v for k, v in values.items() if v not in ("", None, [])},
        "hidden": hidden,
    }
