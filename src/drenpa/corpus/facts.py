"""What a release must say of itself and no file tells: a short YAML file that people write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from drenpa.core.errors import ConfigError, did_you_mean
from drenpa.corpus.audit import Audit

Said = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class ReleaseFacts(BaseModel):
    """What a dataset card must say and no file tells.

    license:  of the whole, as an identifier the hub knows (`cc-by-4.0`).
    contact:  who takes texts out on request.
    limits:   known biases and what the dataset should not be used for.
    licenses: of sources whose own licence differs; a name that ends in `*` stands for all sources
              that begin so, and the longest that fits counts.
    url:      where the dataset will stand; creators: who made it; citation: how to cite it.
    people:   how annotators were found, told and paid, and which voices are missing.
    agreement: how far the raters agreed, as `audit` returns it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Said
    license: Said
    description: Said
    contact: Said
    limits: Said
    version: str = Field(default="1.0.0", pattern=r"^\d+\.\d+\.\d+$")
    licenses: Mapping[str, str] = {}
    url: str = ""
    creators: tuple[str, ...] = ()
    citation: str = ""
    people: str = ""
    agreement: Audit | None = None

    def license_of(self, source: str) -> str:
        """Return the licence of a source: its own, or that of the whole."""
        if source in self.licenses:
            return self.licenses[source]
        begun = [
            name
            for name in self.licenses
            if name.endswith("*") and source.startswith(name.removesuffix("*"))
        ]
        return self.licenses[max(begun, key=len)] if begun else self.license


def read_facts(path: Path | str) -> ReleaseFacts:
    """Read a file of facts; `agreement` in it names a JSON file that holds an `Audit`.

    raises: ConfigError with every fault, a line each.
    """
    path = Path(path)
    try:
        told: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(told, dict):
        raise ConfigError(f"{path}: facts are a mapping of keys to values; see docs/release.md")
    if isinstance(told.get("agreement"), str):
        told = {**told, "agreement": _read_audit(path.parent / told["agreement"])}
    try:
        return ReleaseFacts.model_validate(told)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(
                f"{path}: {'.'.join(map(str, entry['loc']))}: {_fault(entry)}"
                for entry in error.errors()
            )
        ) from None


def _fault(entry: Any) -> str:
    if entry["type"] == "extra_forbidden":
        hint = did_you_mean(str(entry["loc"][-1]), ReleaseFacts.model_fields)
        return f"unknown key{hint or '; known: ' + ', '.join(ReleaseFacts.model_fields)}"
    if entry["type"] == "missing":
        return "missing; write it"
    return str(entry["msg"])


def _read_audit(path: Path) -> Audit:
    try:
        return TypeAdapter(Audit).validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise ConfigError(
            f"{path}: not an audit of ratings ({error.error_count()} faults, the first: "
            f"{error.errors()[0]['msg']}); see docs/release.md"
        ) from None
