"""Who may open the desk: whoever has the link, and with a personal link under that name only.

A link carries a pass: the HMAC of the person's name under a key that lies beside the store. So
links survive a restart, nobody can make one for another name, and a new key makes all of them void.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from drenpa.core.errors import DrenpaError

ANYONE = ""  # the name in a link whose holder says who they are
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def key_of(store: Path) -> bytes:
    """Return the key beside the store, made readable to its owner only if it is not there.

    raises: DrenpaError when the file holds no key, or cannot be written.
    """
    path = store.with_name(store.name + ".key")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        if not os.path.isfile(path):
            raise DrenpaError(
                f"{path}: cannot be written ({error.strerror}); choose another place for the store"
            ) from error
    else:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    try:
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise DrenpaError(f"{path}: holds no key ({error}); remove it for a new one") from error
    if len(key) < 16:
        raise DrenpaError(f"{path}: holds no key; remove it for a new one")
    return key


def pass_for(key: bytes, person: str) -> str:
    """Return the pass of a person, or of anyone."""
    return hmac.new(key, f"desk\0{person}".encode(), hashlib.sha256).hexdigest()[:32]


def holds(key: bytes, person: str, given: str) -> bool:
    """Whether the pass is that person's."""
    return hmac.compare_digest(pass_for(key, person).encode(), given.encode())


def host_name(given: str) -> str:
    """Return a host name or address as browsers name it in their requests.

    >>> host_name("Desk.Example.org")
    'desk.example.org'

    raises: DrenpaError when it is neither.
    """
    name = given.strip().lower()
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        if _HOST.fullmatch(name):
            return name
    raise DrenpaError(
        f"--host: '{given}' is no host name; give it alone, as in desk.example.org, without "
        "http:// and port"
    )


def links(key: bytes, address: str, people: Sequence[str]) -> list[tuple[str, str]]:
    """Return (person, link) for each person, or one link for anyone when nobody is named."""
    return [
        (person, f"{address}/?{urlencode({'person': person, 'pass': pass_for(key, person)})}")
        for person in (people or (ANYONE,))
    ]
