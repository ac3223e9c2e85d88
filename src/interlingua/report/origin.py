"""The page's sections on where its numbers come from: corpus, settings, machine, timings, how to rebuild."""

import json
from typing import Any

from interlingua.report.markup import bullets, escape
from interlingua.report.tables import DASH, Block, Cell, Table, count, facts, number
from interlingua.results import Provenance, Results, name_of

_PAPER = "Method: Ma et al., Cross-Lingual Transfer Learning for Speech Translation (arXiv 2407.01130)."


def corpus(results: Results) -> list[Block]:
    """What was measured on, and whom to credit."""
    found = results.corpus
    if found is None:
        return []
    parts: list[Block] = []
    counts = []
    if found.n_meanings is not None:
        counts.append(f"{found.n_meanings} sentences")
    if found.n_clusters is not None:
        counts.append(f"{found.n_clusters} clusters of near-duplicates")
    opening = ": ".join(part for part in (found.title, ", ".join(counts)) if part)
    if opening:
        parts.append(f"<p>{escape(opening)}.</p>")
    if found.languages:
        rows: list[list[Cell]] = [
            [
                name_of(lang.language),
                lang.voice,
                lang.variety,
                lang.licence,
                count(lang.n),
                number(lang.seconds, 1 / 60),
            ]
            for lang in found.languages
        ]
        head = ["Language", "Voice", "Variety", "Licence", "Recordings", "Minutes"]
        parts.append(Table(name="corpus", title="Corpus", head=head, bodies=[rows], text_columns=4, pinned=True))
    if found.rules:
        parts += ["<h3>What was used</h3>", bullets(found.rules)]
    return parts


def settings(results: Results) -> list[Block]:
    """How it was measured."""
    return facts("settings", "Settings", ["Setting", "Value"], [(k, plain(v)) for k, v in results.settings.items()])


def provenance(results: Results) -> list[Block]:
    """Versions and machine."""
    return facts("provenance", "Versions and machine", ["What", "Value"], origin_facts(results.provenance).items())


def origin_facts(p: Provenance) -> dict[str, str]:
    """What is known of where results come from, by name."""
    commit = f"{p.commit}{' with uncommitted changes' if p.dirty else ''}" if p.commit else None
    found: list[tuple[str, str | None]] = [
        ("Interlingua", p.version),
        ("Commit", commit),
        ("Started", p.started),
        ("Took", None if p.seconds is None else _duration(p.seconds)),
        ("Python", p.python),
        ("Platform", p.platform),
        *((f"Device: {k}" if k != "name" else "Device", plain(v)) for k, v in p.device.items()),
        ("Utterances", f"{p.corpus.utterances}, SHA-256 {p.corpus.sha256}" if p.corpus else None),
        ("Seeds", ", ".join(f"{what}: {seed}" for what, seed in p.seeds.items())),
        ("Packages", ", ".join(f"{k} {v}" for k, v in p.packages.items() if v)),
    ]
    return {k: v for k, v in found if v}


def timings(results: Results) -> list[Block]:
    """How long each stage took."""
    rows = [(stage, _duration(seconds)) for stage, seconds in results.timings.items() if seconds is not None]
    return facts("timings", "Timings", ["Stage", "Time"], rows)


def rebuild(results: Results) -> list[Block]:
    """The commands that make the page, and the measurements."""
    p = results.provenance
    parts: list[Block] = [
        "<p>This page, in its own folder, from <code>results.json</code> and what stands beside it:</p>",
        "<pre>interlingua report .</pre>",
    ]
    if p.command:
        steps = [f"git checkout {p.commit}"] if p.commit else []
        note = " The commit alone is not enough: the checkout had uncommitted changes." if p.dirty else ""
        measured = escape("\n".join([*steps, p.command]))
        parts.append(f"<p>The measurements themselves:{note}</p>\n<pre>{measured}</pre>")
    return parts


def footer(results: Results) -> str:
    """One line on version, commit and date."""
    p = results.provenance
    parts = [f"Interlingua {p.version}" if p.version else "Interlingua"]
    if p.commit:
        parts.append(f"commit {p.commit}{' (dirty)' if p.dirty else ''}")
    if p.started:
        parts.append(f"measured {p.started}")
    return f"<p>{escape(', '.join(parts))}. {escape(_PAPER)}</p>"


def plain(value: Any) -> str:
    """A setting's value for people."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    if value in ([], {}, ""):
        return DASH
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(plain(v) for v in value)
    return json.dumps(value, ensure_ascii=False)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
