"""Describe a release in Croissant, the machine-readable form that dataset search reads.

Source: Croissant Format Specification 1.0 and its responsible-AI vocabulary 1.0, MLCommons 2024.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drenpa.corpus.facts import ReleaseFacts

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

MEANINGS: Mapping[str, str] = {
    "id": "Identifier, unique in the dataset.",
    "kind": "Kind of knowledge: foundation, metacognition, connection or profession.",
    "question": "The question.",
    "answer": "The answer; null where it is withheld.",
    "language": "Language of question and answer.",
    "source": "Where it comes from; no source stands in train and test alike unless the card says "
    "so.",
    "stability": "How fast the answer goes out of date.",
    "demand": "How often it is asked, on one scale throughout.",
    "tags": "Free labels.",
    "license": "Licence of this row.",
    "commitment": "HMAC-SHA256 of a withheld answer.",
    "canary": "Identifier by which a copied test row is recognised.",
    "record": "The record whose question the candidates answer.",
    "annotator": "Who ranked.",
    "split": "Train or held out.",
    "candidates": "The candidate answers.",
}
CANDIDATE_MEANINGS: Mapping[str, str] = {
    "id": "Identifier, unique among the candidates.",
    "answer": "A candidate answer.",
    "rank": "Its rank; 1 is best.",
    "note": "What the annotator says of it.",
    "critique": "The note made full; empty where nobody did.",
}


def croissant(
    folder: Path,
    facts: ReleaseFacts,
    languages: Sequence[str],
    canary: str,
    published: str,
) -> dict[str, Any]:
    """Return the metadata of the Parquet files in a release's folder as JSON-LD.

    published: the day, as YYYY-MM-DD.
    """
    tables = sorted(folder.rglob("*.parquet"))
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts.name,
        "description": facts.description,
        "version": facts.version,
        "license": _license_url(facts.license),
        "url": facts.url or "https://example.invalid/",
        "datePublished": published,
        "inLanguage": list(languages),
        "identifier": canary,
        "citeAs": facts.citation or f"{facts.name}, version {facts.version}",
        "creator": [{"@type": "sc:Person", "name": name} for name in facts.creators]
        or [{"@type": "sc:Organization", "name": facts.contact}],
        "rai:dataBiases": facts.limits,
        "rai:dataLimitations": facts.limits,
        "rai:dataReleaseMaintenancePlan": f"Takedown requests: {facts.contact}.",
        **({"rai:dataAnnotationProtocol": facts.people} if facts.people else {}),
        "distribution": [_file(path, folder) for path in tables],
        "recordSet": [_record_set(path, folder) for path in tables],
    }


def _license_url(name: str) -> str:
    """Croissant wants an address where there is one; SPDX names them all.

    >>> _license_url("cc-by-4.0")
    'https://spdx.org/licenses/CC-BY-4.0.html'
    """
    known = {"cc-by-4.0": "CC-BY-4.0", "cc-by-sa-4.0": "CC-BY-SA-4.0", "cc0-1.0": "CC0-1.0"}
    known |= {"cc-by-nc-4.0": "CC-BY-NC-4.0", "apache-2.0": "Apache-2.0", "mit": "MIT"}
    if name.lower() in known:
        return f"https://spdx.org/licenses/{known[name.lower()]}.html"
    return name


def _file(path: Path, folder: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def _record_set(path: Path, folder: Path) -> dict[str, Any]:
    import pyarrow.parquet

    name = path.relative_to(folder).as_posix()
    label = name.removesuffix(".parquet").replace("data/", "records/").replace("/", "-")
    schema = pyarrow.parquet.read_schema(path)
    return {
        "@type": "cr:RecordSet",
        "@id": label,
        "name": label,
        "key": {"@id": f"{label}/id"},
        "field": [_field(label, name, column) for column in schema],
    }


def _field(label: str, file: str, column: Any) -> dict[str, Any]:
    """One column; a ranking's candidates, a list of structures, become a field with parts."""
    import pyarrow

    name = f"{label}/{column.name}"
    source = {"fileObject": {"@id": file}, "extract": {"column": column.name}}
    listed = pyarrow.types.is_list(column.type)
    inner = column.type.value_type if listed else column.type
    described: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": name,
        "name": name,
        "description": MEANINGS[column.name],
        **({"repeated": True} if listed else {}),
    }
    if not pyarrow.types.is_struct(inner):
        return {**described, "dataType": _data_type(inner), "source": source}
    parts = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{part.name}",
            "name": f"{name}/{part.name}",
            "description": CANDIDATE_MEANINGS[part.name],
            "dataType": _data_type(part.type),
            "repeated": True,
            "source": {**source, "transform": {"jsonPath": f"[*].{part.name}"}},
        }
        for part in inner
    ]
    return {**described, "subField": parts}


def _data_type(column_type: Any) -> str:
    import pyarrow

    if pyarrow.types.is_floating(column_type):
        return "sc:Float"
    return "sc:Integer" if pyarrow.types.is_integer(column_type) else "sc:Text"
