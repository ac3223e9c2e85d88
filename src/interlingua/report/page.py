"""Pages: the sections of a result folder in one self-contained HTML file, and their tables as CSV and LaTeX."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from interlingua.errors import UsageError
from interlingua.files import write_text
from interlingua.registry import Registry
from interlingua.report import outputs, retrieval, studies, transfer, utterances
from interlingua.report.tables import (
    DASH,
    Block,
    Bullets,
    Cell,
    Code,
    Heading,
    Table,
    count,
    facts,
    named_apart,
    number,
    tables_of,
)
from interlingua.results import Provenance, Results, UtteranceResult, load_results, load_utterances, name_of
from interlingua.types import AudioRef

SectionMaker = Callable[[Results, Mapping[str, np.ndarray], Sequence[UtteranceResult]], Sequence[Block]]
"""(results, arrays, kept utterances) -> a section's blocks; no blocks: no section."""

_DEFAULT_TITLE = "Cross-lingual retrieval and translation"
_PAPER = "Method: Ma et al., Cross-Lingual Transfer Learning for Speech Translation (arXiv 2407.01130)."


@dataclass(frozen=True)
class Section:
    """A section of a page; skipped if it has no blocks."""

    name: str
    blocks: Sequence[Block]

    @property
    def title(self) -> str:
        """The name with a capital."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def anchor(self) -> str:
        """The name as an address within the page."""
        return re.sub(r"\W+", "-", self.name.lower()).strip("-") or "section"


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The page above the sections: ``kicker`` above the title, headline (figure, meaning), warnings (``notices``)."""

    title: str
    kicker: str = "results"
    headline: tuple[str, str] | None = None
    lead: Sequence[str] = ()
    notices: Sequence[tuple[str, Sequence[str]]] = ()


def write_report(folder: Path, *, players: bool = True, sections: Sequence[str] = ()) -> Path:
    """Write ``report.html`` into a result folder, byte for byte reproducible, and return its path.

    ``players`` embeds some recordings; ``sections`` are further ones, ``module:attribute``. ResultsError without
    results of this schema; UsageError for a wrong section.
    """
    folder = Path(folder)
    results, arrays = load_results(folder)
    kept = load_utterances(folder)
    if not players:
        kept = [_silent(one) for one in kept]
    names = sorted(dict.fromkeys([*SECTIONS, *sections]), key=lambda name: name in _ABOUT)  # ours about the run go last
    made = [Section(_plain_name(name), _blocks(name, SECTIONS[name](results, arrays, kept))) for name in names]
    headline, lead = retrieval.opening(results)
    opening = Opening(
        title=results.title or _DEFAULT_TITLE,
        headline=headline or transfer.headline(results) or studies.headline(results),
        lead=lead,
        notices=_notices(results),
    )
    path = folder / "report.html"
    write_page(path, opening, made, footer=_footer(results.provenance), tables=folder / "tables")
    return path


def write_page(path: Path, opening: Opening, sections: Iterable[Section], *, footer: str, tables: Path) -> None:
    """Write a page, and its tables as CSV and LaTeX into the folder ``tables``, whose old tables are removed."""
    taken: set[str] = set()
    held = [replace(s, blocks=named_apart(s.blocks, taken)) for s in sections if s.blocks]
    made = [table for s in held for table in tables_of(s.blocks)]
    script = resource("page.js") if any(t.filters is not None for t in made) else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    page = (
        environment()
        .get_template("page.html")
        .render(
            title=opening.title,
            kicker=opening.kicker,
            headline=opening.headline,
            lead=opening.lead,
            notices=opening.notices,
            sections=held,
            footer=footer,
            css=Markup(resource("page.css")),
            script=Markup(script),
            policy="default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; base-uri 'none'; "
            f"form-action 'none'; script-src {allowed}",
        )
    )
    for table in made:
        write_text(tables / f"{table.stem}.csv", table.csv())
        write_text(tables / f"{table.stem}.tex", table.latex())
    for stale in [*tables.glob("*.csv"), *tables.glob("*.tex")]:
        if stale.stem not in taken:
            stale.unlink()
    write_text(path, page)


@cache
def environment() -> Environment:
    """Jinja2 that escapes everything except our SVG."""
    environment = Environment(
        loader=PackageLoader("interlingua.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["svg"] = Markup
    environment.filters["data_url"] = _data_url
    return environment


def resource(name: str) -> str:
    """A template's text."""
    return (files("interlingua.report") / "templates" / name).read_text(encoding="utf-8").strip()


def _data_url(text: str, kind: str) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def _plain_name(name: str) -> str:
    return name.rpartition(":")[2].replace("_", " ")


def _blocks(name: str, blocks: Sequence[Block]) -> Sequence[Block]:
    if isinstance(blocks, str) or not all(isinstance(block, get_args(Block)) for block in blocks):
        raise UsageError(f"report section {name!r} must return a list of blocks (interlingua.report.tables.Block)")
    return blocks


def _silent(one: UtteranceResult) -> UtteranceResult:
    utterance = msgspec.structs.replace(one.utterance, audio=AudioRef(""))
    return msgspec.structs.replace(one, utterance=utterance)


def _notices(results: Results) -> list[tuple[str, Sequence[str]]]:
    n, near = len(results.failures), retrieval.near_chance(results)
    found = {
        f"{'One utterance' if n == 1 else f'{n} utterances'} failed, and counted as missed": results.failures,
        "A pair near chance" if len(near) == 1 else "Pairs near chance": near,
    }
    return [(title, lines) for title, lines in found.items() if lines]


def corpus(results: Results, *_: Any) -> list[Block]:
    """The corpus and its credits."""
    found = results.corpus
    if found is None:
        return []
    blocks: list[Block] = []
    n = ((found.n_meanings, "sentences"), (found.n_clusters, "clusters of near-duplicates"))
    counts = ", ".join(f"{number} {what}" for number, what in n if number is not None)
    if opening := ": ".join(part for part in (found.title, counts) if part):
        blocks.append(f"{opening}.")
    if found.languages:
        rows: list[list[Cell]] = [
            [name_of(c.language), c.voice, c.variety, c.licence, count(c.n), number(c.seconds, 1 / 60)]
            for c in found.languages
        ]
        head = ["Language", "Voice", "Variety", "Licence", "Recordings", "Minutes"]
        blocks.append(Table(name="corpus", title="Corpus", head=head, bodies=[rows], text_columns=4))
    return blocks + ([Heading("What was used"), Bullets(found.rules)] if found.rules else [])


def settings(results: Results, *_: Any) -> list[Block]:
    """The settings of the measurement."""
    return facts("settings", "Settings", ["Setting", "Value"], [(k, plain(v)) for k, v in results.settings.items()])


def provenance(results: Results, *_: Any) -> list[Block]:
    """Versions and machine."""
    return facts("provenance", "Versions and machine", ["What", "Value"], origin_facts(results.provenance).items())


def origin_facts(p: Provenance) -> dict[str, str]:
    """The known provenance, by name."""
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


def timings(results: Results, *_: Any) -> list[Block]:
    """The duration of each stage."""
    rows = [(stage, _duration(seconds)) for stage, seconds in results.timings.items() if seconds is not None]
    return facts("timings", "Timings", ["Stage", "Time"], rows)


def rebuild(results: Results, *_: Any) -> list[Block]:
    """The commands that reproduce the page and the measurements."""
    p = results.provenance
    blocks: list[Block] = [
        "This page, in its own folder, from results.json and the files next to it:",
        Code("interlingua report ."),
    ]
    if p.command:
        note = " The commit alone is not enough: the checkout had uncommitted changes." if p.dirty else ""
        steps = [f"git checkout {p.commit}"] if p.commit else []
        blocks += [f"The measurements themselves:{note}", Code("\n".join([*steps, p.command]))]
    return blocks


def plain(value: Any) -> str:
    """A setting's value as text."""
    if value is None or value in ([], {}, ""):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(plain(v) for v in value)
    return json.dumps(value, ensure_ascii=False)


def _footer(p: Provenance) -> str:
    parts = [f"Interlingua {p.version}" if p.version else "Interlingua"]
    parts += [f"commit {p.commit}{' (dirty)' if p.dirty else ''}"] if p.commit else []
    parts += [f"measured {p.started}"] if p.started else []
    return f"{', '.join(parts)}. {_PAPER}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


SECTIONS: Registry[SectionMaker] = Registry(
    "report section",
    "sections",
    {
        "retrieval": retrieval.retrieval,
        "pairs": retrieval.pairs,
        "methods": retrieval.methods,
        "alignment": retrieval.alignment,
        "language distance": studies.distances,
        "correlations": studies.correlations,
        "unseen languages": studies.unseen,
        "tokens": studies.tokens,
        "translation": outputs.translation,
        "before and after": transfer.summary,
        "new target": transfer.new_target,
        "old tasks": transfer.old_tasks,
        "pooled differences": transfer.pooled,
        "training": transfer.training,
        "gain and loss": transfer.pareto,
        "variants": transfer.variants,
        "variants by language": transfer.variants_by_language,
        "outputs": outputs.systems,
        "outputs compared": outputs.compared,
        "outputs by duration": outputs.by_duration,
        "worst outputs": outputs.worst,
        "published figures": studies.published,
        "queries": utterances.queries,
        "translations": utterances.translations,
        "transcripts": utterances.transcripts,
        "corpus": corpus,
        "settings": settings,
        "provenance": provenance,
        "timings": timings,
        "rebuild": rebuild,
    },
)
_ABOUT = ("corpus", "settings", "provenance", "timings", "rebuild")
