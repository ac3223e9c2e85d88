"""Golden results: how result folders are read, how files of golden results are written, and how the two are compared.

All knowledge of today's file names and keys is here, so that a key that is renamed is renamed in one place: in `KEYS`.
Keys that a golden result doesn't have are not looked at.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
WRITE = os.environ.get("INTERLINGUA_GOLDEN") == "write"

KEYS: dict[str, str] = {"left_out": "skipped", "heard": "detection"}
"""Key of a golden result -> what it is called now in results.json, utterances.jsonl, manifests; the same if absent."""

WORDS = {"signature", "reason", "name", "title", "seconds", "timings", "provenance", "settings", "samples", "speakers"}
"""Keys whose values are wording, provenance or timings, and are compared nowhere."""

TABLES: dict[str, tuple[str, ...]] = {  # table of results.json -> what identifies a row of it; nothing: its place
    "retrieval": ("query", "candidate", "method"),
    "translation": ("source", "target", "system"),
    "transfer": ("task", "source", "target"),
    "transfer_pooled": (),
    "outputs": ("system", "task", "source", "target", "sources"),
    "outputs_compared": ("system", "against", "task", "source", "target", "sources"),
    "outputs_by_duration": (),
    "worst": (),
    "unseen": ("language", "own_token"),
    "unseen_rules": ("rule",),
}
LABELS = {"transfer_pooled": {"pool"}, "outputs_by_duration": {"duration"}}  # more wording, in these tables only
MANIFEST = (
    "id", "audio", "language", "text", "translations", "meaning", "cluster", "split", "speaker", "gender", "duration",
)  # fmt: skip
AUDIO = ("path", "offset", "duration", "member")


def now(key: str) -> str:
    """What a key is called now."""
    return KEYS.get(key, key)


# ---------------------------------------------------------------- reading what the command line wrote


def results_of(folder: Path) -> dict[str, Any]:
    """``results.json``, with today's names of keys."""
    return _as_then(json.loads((folder / "results.json").read_text(encoding="utf-8")))


def rows(results: Mapping[str, Any], table: str) -> dict[str, Any]:
    """A table's rows by what identifies them, without wording."""
    found: dict[str, Any] = {}
    for place, row in enumerate(results[table]):
        name = " ".join(_word(row.get(key)) for key in TABLES[table]) or str(place)
        assert name not in found, f"{table}: {name} comes twice"
        bare = without_words(row)
        found[name] = {k: v for k, v in bare.items() if k not in (*TABLES[table], *LABELS.get(table, ()))}
    return found


def tables(folder: Path, *names: str) -> dict[str, Any]:
    """Some tables of a result folder."""
    results = results_of(folder)
    return {name: rows(results, name) for name in names}


def utterances_of(folder: Path) -> list[dict[str, Any]]:
    """Lines of ``utterances.jsonl``."""
    lines = (folder / "utterances.jsonl").read_text(encoding="utf-8").splitlines()
    return [_as_then(json.loads(line)) for line in lines]


def ranks_of(folder: Path) -> dict[str, str]:
    """Method and pair -> the rank of every query's right utterance, in the order of their ids; 0 is nowhere."""
    found: dict[str, list[str]] = {}
    for line in sorted(utterances_of(folder), key=lambda line: line["utterance"]["id"]):
        for method, by_language in line.get("retrieval", {}).items():
            for candidate, ranked in by_language.items():
                pair = f"{line['utterance']['language']} {candidate} {method}"
                found.setdefault(pair, []).append(str(ranked.get("rank") or 0))
    return {pair: " ".join(ranks) for pair, ranks in sorted(found.items())}


def texts_of(folder: Path) -> dict[str, Any]:
    """Utterance -> system and target -> (text, score) of what was written."""
    found: dict[str, Any] = {}
    for line in utterances_of(folder):
        said = {f"{t['system']} {t['target']}": [t["hypothesis"], t["chrf"]] for t in line.get("translations", [])}
        heard = {f"{t['system']} {t['unit']}": [t["hypothesis"], t["error"]] for t in line.get("transcripts", [])}
        if said or heard:
            found[line["utterance"]["id"]] = said | heard
    return found


def manifest_records(path: Path, folder: Path) -> list[dict[str, Any]]:
    """Lines of a manifest, with ``folder`` (in its place: TMP) taken out of every text."""
    text = path.read_text(encoding="utf-8").replace(json.dumps(str(folder))[1:-1], "TMP")
    found = []
    for line in text.splitlines():
        said = _as_then(json.loads(line))
        record = {key: said[key] for key in MANIFEST if said.get(key) not in (None, {}, "")}
        record["audio"] = {key: said["audio"][key] for key in AUDIO if said["audio"].get(key) is not None}
        found.append(record)
    return found


def without_words(value: Any) -> Any:
    """Without the keys whose values are wording; what lacks a score for a reason has ``lacks``."""
    if isinstance(value, Mapping):
        bare = {k: without_words(v) for k, v in value.items() if k not in WORDS}
        return bare | {"lacks": True} if "reason" in value else bare
    if isinstance(value, list):
        return [without_words(v) for v in value]
    return value


def _as_then(value: Any) -> Any:
    if not KEYS:
        return value
    if isinstance(value, dict):
        return {_then(k): _as_then(v) for k, v in value.items()}
    return [_as_then(v) for v in value] if isinstance(value, list) else value


def _then(key: str) -> str:
    return next((old for old, new in KEYS.items() if new == key), key)


def _word(value: Any) -> str:
    return "+".join(value) if isinstance(value, list) else _then(str(value))


# ---------------------------------------------------------------- golden files


def check(name: str, found: Mapping[str, Any], *, tolerance: float = 0.0) -> None:
    """Compare with ``NAME.json``, or write it where INTERLINGUA_GOLDEN=write."""
    if WRITE:
        write_golden(name, found)
        return
    wrong = differences(stated(read_golden(name)), stated(json.loads(json.dumps(found))), tolerance)
    assert not wrong, f"{len(wrong)} figures differ from tests/golden/{name}.json:\n" + "\n".join(wrong[:40])


def stated(value: Any) -> Any:
    """Without null and false: results.json leaves out what is absent since its schema is typed."""
    if isinstance(value, dict):
        return {k: stated(v) for k, v in value.items() if v is not None and v is not False}
    return [stated(v) for v in value] if isinstance(value, list) else value


def read_golden(name: str) -> dict[str, Any]:
    """A golden file."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def write_golden(name: str, found: Mapping[str, Any]) -> None:
    """Write a golden file: a line for each of the two upper levels' entries."""
    parts = []
    for key, value in found.items():
        if isinstance(value, dict) and value:
            inner = ",\n".join(f"  {json.dumps(k, ensure_ascii=False)}: {_line(v)}" for k, v in value.items())
            parts.append(f" {json.dumps(key, ensure_ascii=False)}: {{\n{inner}\n }}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            inner = ",\n".join(f"  {_line(v)}" for v in value)
            parts.append(f" {json.dumps(key, ensure_ascii=False)}: [\n{inner}\n ]")
        else:
            parts.append(f" {json.dumps(key, ensure_ascii=False)}: {_line(value)}")
    (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def differences(expected: Any, found: Any, tolerance: float = 0.0, place: str = "") -> list[str]:
    """Where two results differ: numbers by more than ``tolerance`` (relative, absolute below 1), all else at all.

    Keys that only ``found`` has don't matter.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        wrong = []
        for key, value in expected.items():
            here = f"{place} > {key}" if place else key
            if key in found:
                wrong += differences(value, found[key], tolerance, here)
            else:
                wrong.append(f"{here}: is gone; it was {_line(value)[:200]}")
        return wrong
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return [f"{place}: {len(found)} entries, not {len(expected)}"]
        pairs = zip(expected, found, strict=True)
        return [line for n, (a, b) in enumerate(pairs) for line in differences(a, b, tolerance, f"{place}[{n}]")]
    if _is_number(expected) and _is_number(found):
        if abs(expected - found) <= tolerance * max(1.0, abs(expected)):
            return []
    elif type(expected) is type(found) and expected == found:
        return []
    return [f"{place}: {_line(found)[:200]}, not {_line(expected)[:200]}"]


def rank_agreement(expected: Mapping[str, str], found: Mapping[str, str]) -> tuple[int, int]:
    """(queries whose rank is the same, queries)."""
    assert expected.keys() <= found.keys(), f"not ranked: {sorted(expected.keys() - found.keys())}"
    same = total = 0
    for pair, ranks in expected.items():
        here, there = ranks.split(), found[pair].split()
        assert len(here) == len(there), f"{pair}: {len(there)} queries, not {len(here)}"
        same += sum(a == b for a, b in zip(here, there, strict=True))
        total += len(here)
    return same, total


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_lines(path: Path) -> Sequence[Any]:
    """JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
