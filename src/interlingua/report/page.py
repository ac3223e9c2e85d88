"""The page of a result folder: sections of tables and SVG pictures, filled into ``report.html``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from interlingua.files import write_text
from interlingua.report import (
    origin,
    outputs,
    retrieval,
    robustness,
    transfer,
    transfer_study,
    translation,
    unseen,
    utterances,
)
from interlingua.report.latex import latex
from interlingua.report.markup import bullets, escape, html_of
from interlingua.report.summary import Summary, summarise
from interlingua.report.tables import Block, Table
from interlingua.results import Results, UtteranceResult, load_results, load_utterances

_DEFAULT_TITLE = "Cross-lingual retrieval and translation"


@dataclass(frozen=True)
class Section:
    """A section of a page; without blocks it is left out."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def write_report(folder: Path, *, players: bool = True) -> Path:
    """Write ``report.html`` into a result folder, from what the folder holds, and return its path.

    The page needs nothing but itself; its tables stand in ``tables/`` too, as CSV and LaTeX. Parts that were not
    measured are left out; the same results and recordings give the same bytes.

    Args:
        folder: the result folder.
        players: put recordings of some utterances into the page, where they can be read.

    Raises:
        ResultsError: no results there, or not of this version's schema.
    """
    results, arrays = load_results(folder)
    summary = summarise(results)
    sections = _sections(results, arrays, summary, load_utterances(folder), players)
    path = Path(folder) / "report.html"
    write_page(
        path,
        results.title or _DEFAULT_TITLE,
        sections,
        lead=_failures(results) + _lead(summary),
        footer=origin.footer(results),
        tables=path.with_name("tables"),
    )
    return path


def write_page(path: Path, title: str, sections: Iterable[Section], *, lead: str, footer: str, tables: Path) -> None:
    """Write a page, and its tables as CSV and LaTeX into a folder of their own.

    Args:
        path: of the page.
        title: plain text.
        sections: those without blocks are left out.
        lead: markup below the title.
        footer: markup.
        tables: the folder; tables that stood there before are removed.
    """
    held = _named_apart(s for s in sections if s.blocks)
    body = "\n".join(
        f'<section id="{s.anchor}">\n<h2><span class="no">{place}</span>{escape(s.title)}</h2>\n'
        f"{html_of(s.blocks)}\n</section>"
        for place, s in enumerate(held, start=1)
    )
    made = [block for s in held for block in s.blocks if isinstance(block, Table)]
    links = "\n".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in held)
    page = Template(_resource("report.html")).substitute(
        title=escape(title),
        css=_resource("report.css").strip(),
        lead=lead,
        contents=f'<nav aria-label="Sections">\n{links}\n</nav>' if len(held) > 1 else "",
        body=body,
        footer=footer,
        script=f"<script>\n{_resource('report.js').strip()}\n</script>\n" if any(t.filters for t in made) else "",
    )
    _write_tables(tables, made)
    write_text(path, page)


def _named_apart(sections: Iterable[Section]) -> list[Section]:
    """Sections whose tables' files all have names of their own: one that is taken is numbered."""
    taken: set[str] = set()

    def named(block: Block) -> Block:
        if not isinstance(block, Table):
            return block
        stem, n = block.stem, 1
        while stem in taken:
            n += 1
            stem = f"{block.stem[:70]}-{n}"
        taken.add(stem)
        return block if n == 1 else replace(block, name=stem)

    return [replace(s, blocks=[named(block) for block in s.blocks]) for s in sections]


def _write_tables(folder: Path, tables: Sequence[Table]) -> None:
    for table in tables:
        write_text(folder / f"{table.stem}.csv", table.csv())
        write_text(folder / f"{table.stem}.tex", latex(table))
    held = {table.stem for table in tables}
    for stale in [*folder.glob("*.csv"), *folder.glob("*.tex")]:
        if stale.stem not in held:
            stale.unlink()


def _sections(
    results: Results,
    arrays: Mapping[str, np.ndarray],
    summary: Summary,
    kept: Sequence[UtteranceResult],
    players: bool,
) -> list[Section]:
    return [
        Section("retrieval", "Retrieval across languages", retrieval.retrieval(results, arrays, summary)),
        Section("pairs", "All ordered pairs", retrieval.pairs(results)),
        Section("methods", "Methods and controls", retrieval.methods(results)),
        Section("published", "Beside published figures", retrieval.published(results)),
        Section("alignment", "Inside one match", retrieval.alignment(results, arrays)),
        Section("robustness", "Against language distance", robustness.languages(results)),
        Section("correlations", "Does distance matter?", robustness.correlations(results)),
        Section("unseen", "Translation and transcripts of each language", unseen.languages(results)),
        Section("tokens", "Which token", unseen.tokens(results)),
        Section("published-unseen", "Beside published figures", unseen.published(results)),
        Section("translation", "Translation", translation.translation(results, fold=not kept)),
        Section("transfer", "Into the new target", transfer.new_target(results)),
        Section("kept", "What must not be lost", transfer.kept(results)),
        Section("pooled", "Pooled differences", transfer.pooled(results)),
        Section("pareto", "Gain against loss", transfer.pareto(results)),
        Section("variants", "Variants compared", transfer_study.variants(results)),
        Section("variants-languages", "Variants by language spoken", transfer_study.languages(results)),
        Section("published-transfer", "Beside published figures", transfer_study.published(results)),
        Section("systems", "Systems' outputs", outputs.systems(results)),
        Section("compared", "One system against another", outputs.compared(results)),
        Section("durations", "By duration", outputs.by_duration(results)),
        Section("worst", "The worst outputs", outputs.worst(results)),
        Section("queries", "Every query", utterances.queries(results, kept, players=players)),
        Section("translations", "Every translation", utterances.translations(kept, players=players)),
        Section("transcripts", "Every transcript", utterances.transcripts(kept, players=players)),
        Section("corpus", "Corpus and credits", origin.corpus(results)),
        Section("settings", "Settings", origin.settings(results)),
        Section("provenance", "Versions and machine", origin.provenance(results)),
        Section("timings", "Timings", origin.timings(results)),
        Section("rebuild", "How to rebuild", origin.rebuild(results)),
    ]


def _failures(results: Results) -> str:
    if not results.failures:
        return ""
    n = len(results.failures)
    what = "One utterance" if n == 1 else f"{n} utterances"
    return f"<aside>\n<h3>{what} failed, and counted as missed</h3>\n{bullets(results.failures)}\n</aside>\n"


def _lead(summary: Summary) -> str:
    if not summary.lead:
        return ""
    parts = [f'<p class="lead">{escape(summary.lead)}</p>']
    parts += [f"<p>{escape(text)}</p>" for text in (summary.controls, " ".join(summary.notes)) if text]
    if summary.near_chance:
        one = len(summary.near_chance) == 1
        parts.append(
            f"<aside>\n<h3>{'A pair' if one else 'Pairs'} near chance</h3>\n"
            f"{bullets(summary.near_chance)}\n<p>Likely causes, to be checked in this order:</p>\n"
            f"{bullets(summary.causes)}\n</aside>"
        )
    return "\n".join(parts)


def _resource(name: str) -> str:
    return (files("interlingua.report") / name).read_text(encoding="utf-8")
