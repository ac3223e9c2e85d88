"""Studies of unseen languages and of robustness side by side: scores of each language, and what distance explains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from interlingua.metrics import Metric as TextMetric
from interlingua.report.lines import compared, not_tested, scaled, side_by_side
from interlingua.report.markup import details
from interlingua.report.pairing import Run, transcript_difference, translation_difference
from interlingua.report.robustness import measure_name
from interlingua.report.tables import Block, Cell, Table
from interlingua.results import Difference, Metric, Results, name_of

Key = tuple[str, bool]
"""A language, and whether its own token was forbidden."""

_ENGLISH = "en"
_MEASURES: dict[str, tuple[str, float]] = {  # label and scale
    "bleu": ("BLEU", 1),
    "chrf": ("chrF", 1),
    "off_target": ("Off target, %", 100),
    "wer": ("WER, %", 1),
    "cer": ("CER, %", 1),
}
_TRANSLATIONS: dict[str, TextMetric] = {"bleu": "bleu", "chrf": "chrf"}


@dataclass(frozen=True)
class Asked:
    """A language that a study asked about: under which token, and its scores."""

    token: str
    bleu: Metric | None = None
    chrf: Metric | None = None
    off_target: Metric | None = None
    wer: Metric | None = None
    cer: Metric | None = None


def languages(runs: Sequence[Run]) -> list[Block]:
    """Tokens and scores of every language that the first run and another asked about."""
    found = [_asked(run.results) for run in runs]
    keys = [key for key in found[0] if any(key in asked for asked in found[1:])]
    if not keys:
        return []
    head = ["Language", *(run.name for run in runs)]
    rows: list[list[Cell]] = [
        [_label(key), *(asked[key].token if key in asked else None for asked in found)] for key in keys
    ]
    caption = "Under the token that each run's default rule took without references, or the language's own."
    parts: list[Block] = [
        Table(
            name="languages-tokens", title="Tokens", head=head, bodies=[rows], caption=caption, text_columns=len(head),
            pinned=True,
        )
    ]  # fmt: skip
    for measure, (label, scale) in _MEASURES.items():
        lines = []
        for key in keys:
            rows_of = [asked.get(key) for asked in found]
            scores = [scaled(getattr(row, measure), scale) if row else None for row in rows_of]
            lines.append(compared(_label(key), scores, _pairing(runs, rows_of, key[0], measure)))
        told = "Transcripts" if measure in ("wer", "cer") else "Translation into English"
        name = f"languages-{measure}".replace("_", "-")
        parts += side_by_side(runs, name, label, lines, f"{told}, {label}, by language spoken.")
    return parts


def correlations(runs: Sequence[Run]) -> list[Block]:
    """Rank correlations with the distance to the pivot that runs share, folded away."""
    studies = [run.results.robustness for run in runs]
    first = studies[0]
    if first is None:
        return []
    found = [
        {(c.measure, c.method, c.kind, c.seen_only): c.value for c in study.correlations if study.pivot == first.pivot}
        if study
        else {}
        for study in studies
    ]
    lines = []
    for key in found[0]:
        measure, method, kind, seen_only = key
        label = f"{measure_name(measure, method, first.pivot)}, {kind}{', with a token' if seen_only else ''}"
        values = [held.get(key) for held in found]
        lines.append(compared(label, [None if v is None else Metric(value=v) for v in values], not_tested))
    caption = f"Spearman's rank correlation with the distance to {name_of(first.pivot)}; differences are not tested."
    blocks = side_by_side(runs, "correlations-compared", "ρ", lines, caption, what="Measure and distance", digits=2)
    return details("Rank correlations with distance", blocks) if blocks else []


def _asked(results: Results) -> dict[Key, Asked]:
    found: dict[Key, Asked] = {}
    for r in results.unseen:
        scores, error = r.scores, r.error or {}
        asked = Asked(
            r.chosen, scores.bleu, scores.chrf, scores.off_target, error.get("words"), error.get("characters")
        )
        found.setdefault((r.language, r.forbidden), asked)  # its own token alone comes before it among others
    for d in results.robustness.languages if results.robustness else []:  # English is transcribed only
        found.setdefault((d.language, False), Asked(d.token, d.bleu, d.chrf, d.off_target, d.wer, d.cer))
    return found


def _label(key: Key) -> str:
    return name_of(key[0]) + (", its own token forbidden" if key[1] else "")


def _pairing(
    runs: Sequence[Run], rows: Sequence[Asked | None], language: str, measure: str
) -> Callable[[int], Difference | None]:
    """What compares a run's answers with the first's, where they were kept."""

    def paired(i: int) -> Difference | None:
        before, after = rows[0], rows[i]
        if before is None or after is None:
            return None
        systems = _system(runs[0], before), _system(runs[i], after)
        if measure in _TRANSLATIONS:
            direction = (language, _ENGLISH)
            return translation_difference(runs[0], runs[i], systems, [direction], _TRANSLATIONS[measure])
        if measure in ("wer", "cer"):
            return transcript_difference(runs[0], runs[i], systems, [language], characters=measure == "cer")
        return None

    return paired


def _system(run: Run, row: Asked) -> str:
    """The name that the study keeps a language's answers under."""
    return f"{run.results.settings.get('model')} as {row.token}"
