"""The page that compares runs: what differs between them first, then their scores side by side."""

from collections.abc import Sequence
from pathlib import Path

from interlingua.errors import ResultsError, UsageError
from interlingua.report import side_by_side, side_by_side_languages
from interlingua.report.markup import escape
from interlingua.report.origin import origin_facts, plain
from interlingua.report.page import Section, write_page
from interlingua.report.pairing import Run
from interlingua.report.tables import Block, Cell, Table
from interlingua.results import load_results, load_utterances


def write_comparison(folders: Sequence[Path], path: Path) -> Path:
    """Write a page that compares result folders with the first of them, and return its path.

    Its tables stand beside it as CSV and LaTeX, in a folder of its name and ``-tables``.

    Raises:
        UsageError: fewer than two folders, or one of them twice.
        ResultsError: a folder without readable results, or runs of which none shares anything with the first.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UsageError("a comparison takes two result folders or more, each once")
    runs = [
        Run(name, load_results(folder)[0], load_utterances(folder))
        for name, folder in zip(_names(folders), folders, strict=True)
    ]
    measured = [
        Section("retrieval", "Retrieval", side_by_side.retrieval(runs)),
        Section("languages", "Each language", side_by_side_languages.languages(runs)),
        Section("correlations", "Does distance matter?", side_by_side_languages.correlations(runs)),
        Section("translation", "Translation", side_by_side.translation(runs)),
        Section("outputs", "Systems' outputs", side_by_side.outputs(runs)),
        Section("transfer", "After fine-tuning", side_by_side.after_training(runs)),
        Section("pareto", "Gain against loss", side_by_side.pareto(runs)),
    ]
    if not any(section.blocks for section in measured):
        raise ResultsError(
            f"{', '.join(str(f) for f in folders[1:])}: nothing that {folders[0]} measured too (no language pair, "
            "translation direction or task in common); compare runs of one kind"
        )
    about = _settings(runs)
    sections = [
        Section("runs", "Runs", _runs(runs)),
        Section("differing", "Settings that differ", about[True]),
        *measured,
        Section("settings", "Settings in common", about[False]),
        Section("provenance", "Versions and machines", _provenance(runs)),
    ]
    write_page(
        path,
        f"{' and '.join(run.name for run in runs)} compared" if len(runs) == 2 else f"{len(runs)} runs compared",
        sections,
        lead=_lead(runs),
        footer="<p>Interlingua, from saved results alone.</p>",
        tables=path.with_name(f"{path.stem}-tables"),
    )
    return path


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as much of their paths as tells them apart."""
    paths = [folder.resolve() for folder in folders]
    return next(
        names
        for depth in range(1, max(len(path.parts) for path in paths) + 1)
        if len(set(names := ["/".join(path.parts[-depth:]) for path in paths])) == len(names)
    )


def _lead(runs: Sequence[Run]) -> str:
    first, *others = runs
    lead = f"{', '.join(run.name for run in others)} beside {first.name}, which differences are taken from."
    hashes = [run.results.provenance.corpus for run in runs]
    known = {found.sha256 for found in hashes if found}
    warning = ""
    if len(known) > 1:
        warning = "The runs were measured on different utterances (see the hashes under Runs)."
    elif None in hashes:
        warning = "Not every run says which utterances it was measured on: that they are the same is not known."
    return f'<p class="lead">{escape(lead)}</p>' + (f"\n<aside><p>{escape(warning)}</p></aside>" if warning else "")


def _runs(runs: Sequence[Run]) -> list[Block]:
    rows: list[list[Cell]] = []
    for run in runs:
        p = run.results.provenance
        corpus = f"{p.corpus.utterances}, {p.corpus.sha256[:12]}" if p.corpus else None
        commit = f"{p.commit}{' (dirty)' if p.dirty else ''}" if p.commit else None
        rows.append([run.name, run.results.title, p.started, commit, corpus])
    head = ["Run", "Title", "Started", "Commit", "Utterances, SHA-256"]
    return _wide("runs", "Runs", head, rows)


def _settings(runs: Sequence[Run]) -> dict[bool, list[Block]]:
    """Settings that differ (True), and those that don't."""
    names = dict.fromkeys(name for run in runs for name in run.results.settings)
    rows: dict[bool, list[list[Cell]]] = {True: [], False: []}
    for name in names:
        values = [plain(run.results.settings.get(name)) for run in runs]
        differ = len(set(values)) > 1
        rows[differ].append([name, *(values if differ else values[:1])])
    names_of_runs = [run.name for run in runs]
    return {
        True: _wide("settings-that-differ", "Settings that differ", ["Setting", *names_of_runs], rows[True]),
        False: _wide("settings-in-common", "Settings in common", ["Setting", "Value"], rows[False]),
    }


def _provenance(runs: Sequence[Run]) -> list[Block]:
    found = [origin_facts(run.results.provenance) for run in runs]
    whats = dict.fromkeys(what for facts in found for what in facts)
    rows: list[list[Cell]] = [[what, *(facts.get(what) for facts in found)] for what in whats]
    return _wide("provenance", "Versions and machines", ["What", *(run.name for run in runs)], rows)


def _wide(name: str, title: str, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[Block]:
    """A table of text only, or nothing."""
    if not rows:
        return []
    return [Table(name=name, title=title, head=head, bodies=[rows], text_columns=len(head), ruled=True, pinned=True)]
