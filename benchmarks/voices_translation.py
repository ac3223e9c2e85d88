"""Translation of other voices and families than the prompts corpus has; writes docs/voices-translation.md.

Phrases against decoding, a language without a token, and transfer to German, on the clones of `voices`. The page is
written after each part. Frames, models and outputs are kept in runs/, so that an interrupted run goes on; two trainings
take most of an hour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from interlingua.corpora import prepare_prompts, split_by_cluster, write_manifest
from interlingua.corpora.base import read_corpus
from interlingua.corpora.voices import gcompris_english
from interlingua.encoding import FrameStore
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.finetune import kept_outputs, run_finetune
from interlingua.experiments.unseen import UnseenStudy, run_unseen_study
from interlingua.files import write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.evaluate import new_tasks, transfer_rows
from interlingua.index import Phrases, build
from interlingua.languages import language_name
from interlingua.metrics import SystemOutputs, pooled_difference, segment_scores, translation_statistics
from interlingua.models import load_whisper
from interlingua.results import Change, load_results
from interlingua.types import Score, Utterance
from stores import OUT, encoded, subset
from voices import POOL, clones, other_voice

PAGE = Path(__file__).resolve().parent.parent / "docs" / "voices-translation.md"
KEPT = Path("runs/voices")
MOST = 60  # recordings of Gaelic that are decoded, drawn
TARGETS, FOLD, CONTEXT = ("zh", "es"), 0, "speech+8"  # of the trainings
HEAD = """# Translating other voices and families

Written by `make bench-voices` (`benchmarks/voices_translation.py`), not by hand. Whisper-base on the recordings of
[other voices, other families](voices.md); intervals are 95% bootstrap intervals over clusters of near-duplicate sentences.
The English texts of GCompris' instructions are ours: written by listening with a recogniser, and corrected.
"""


def main() -> None:
    """Measure, and write the page after each part."""
    roots = clones(str(__doc__))
    parts = [HEAD]
    for section in (phrases_section, unseen_section):
        parts.append(section(roots["gcompris"]))
        write_text(PAGE, "".join(parts))
    for n in range(1, len(TARGETS) + 1):
        write_text(PAGE, "".join([*parts, transfer_section(roots["asterisk"], TARGETS[:n])]))
    print(f"{PAGE} written")


# ---------------------------------------------------------------- translation by retrieval


@dataclass(frozen=True)
class Found:
    """A recording, its English text, and the nearest phrase; ``sure``: the match is."""

    id: str
    english: str
    nearest: str
    sure: bool

    @property
    def right(self) -> bool:
        """Whether the phrase has the recording's own text."""
        return same(self.nearest, self.english)


def retrieved(
    name: str, utterances: Sequence[Utterance], store: FrameStore, language: str
) -> tuple[float, list[Found]]:
    """The margin of an index of the other languages, and what it finds for every recording of a language."""
    spoken = [u for u in utterances if u.language == language and u.translations.get("en")]
    others = [u for u in utterances if u.language != language]
    frames = subset(store, others, OUT / f"phrases-{name}-without-{language}.lance")
    index, _ = build([], OUT / f"phrases-{name}-without-{language}", stores=[frames])
    book = Phrases(index, ["en"])
    margin, found = book.margin("en"), []
    for u, ranked in zip(
        spoken, book.ranked(store.read([u.id for u in spoken]), [language] * len(spoken)), strict=True
    ):
        best = book.best(ranked, "en")
        assert best is not None  # all phrases have English texts
        found.append(Found(u.id, u.translations["en"], best[0], best[1].margin >= margin))
    return margin, found


def nearest_texts(outputs: Mapping[str, str], texts: Sequence[str]) -> dict[str, str]:
    """The text of the collection that is nearest to each output by chrF; "" for none."""
    scores = [segment_scores(outputs, dict.fromkeys(outputs, text), metric="chrf") for text in texts]
    found = {i: max(range(len(texts)), key=lambda n: scores[n][i]) for i in outputs}
    return {i: texts[n] if scores[n][i] else "" for i, n in found.items()}


def same(a: str, b: str) -> bool:
    """Whether two texts are one but for case and spaces."""
    return a.casefold().split() == b.casefold().split()


def gaelic_phrases(root: Path) -> tuple[float, list[Found]]:
    """`retrieved` for Scottish Gaelic."""
    spoken = list(read_corpus("gcompris", root))
    return retrieved("gcompris", spoken, encoded(spoken, "gcompris", pooling=POOL), "gd")


def phrases_section(root: Path) -> str:
    """Translation by retrieval, without a decoder."""
    prompts = prepare_prompts()
    sets = {
        "gd": gaelic_phrases(root),
        "ru": retrieved("prompts", prompts, encoded(prompts, "prompts-pooled", pooling=POOL), "ru"),
    }
    lines = []
    for language, (margin, found) in sets.items():
        sure = [f for f in found if f.sure]
        cells = [
            language_name(language),
            str(len(found)),
            share(sum(f.right for f in found), len(found)),
            f"{margin:.3f}",
            share(len(sure), len(found)),
            share(sum(f.right for f in sure), len(sure)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines)
    return f"""
## Translation by retrieval: `translate --phrases`

```
interlingua index build phrases.jsonl --out phrases          # a manifest with English transcripts or translations
interlingua translate gaelic.ogg --from gd --phrases phrases
```

Each recording of a language against an index of all others' phrases (GCompris' instructions for Gaelic, the prompts for
Russian), at the margin that the index calibrates on its own languages: no Gaelic and no Russian has a part in it, and
90% of the answers are to be right even if half of what is spoken has no phrase. Here every recording has one.

| language | recordings | nearest phrase right | margin | sure | right of those |
| --- | --- | --- | --- | --- | --- |
{table}

"""


def share(n: int, of: int) -> str:
    """A part as a percentage with its count."""
    return f"{100 * n / of:.0f}% ({n})" if of else "–"


# ---------------------------------------------------------------- a language without a token


def unseen_section(root: Path) -> str:
    """Scottish Gaelic under every related token."""
    corpus = CorpusSource(name="gcompris", root=root, languages=("gd",))
    out = run_unseen_study(UnseenStudy(out=KEPT / "unseen", corpus=corpus, most=MOST))
    results = load_results(out)[0]
    (gaelic,) = results.unseen
    lines = []
    for candidate in gaelic.candidates:
        named = [rule for rule, choice in gaelic.rules.items() if choice.token == candidate.token]
        taken = f"{', '.join(named)}{' (the default)' if candidate.token == gaelic.chosen else ''}"
        best = " ★" if candidate.token == gaelic.oracle else ""
        off = f"{100 * candidate.off_target.value:.0f}%"
        lines.append(
            f"| `{candidate.token}`{best} | {interval(candidate.chrf)} | {interval(candidate.bleu)} | {off} | {taken} |"
        )
    said = {s.id: s.hypothesis or "" for s in results.samples}
    clusters = {u.id: u.group for u in read_corpus("gcompris", root, languages=("gd",))}
    found = {f.id: f for f in gaelic_phrases(root)[1] if f.id in said}
    english = {i: f.english for i, f in found.items()}
    near = nearest_texts(said, sorted({*gcompris_english().values()}))
    shown = {i: f.nearest if f.sure else said[i] for i, f in found.items()}
    sides = [SystemOutputs(side, english, {i: clusters[i] for i in said}, "en") for side in (shown, said)]
    after, before = (translation_statistics(side, "chrf") for side in sides)
    change = pooled_difference([after], [before])
    least, most = change.ci or (0.0, 0.0)
    sure = [f for f in found.values() if f.sure]
    against = gaelic.permuted["chrf"]
    assert against.value is not None
    assert against.difference is not None
    table = "\n".join(lines)
    above = against.difference
    low, high = above.ci or (0.0, 0.0)
    verdict = "not above chance" if low <= 0 else "above chance"
    return f"""
## A language without a token: Scottish Gaelic into English

{gaelic.n} recordings, drawn, by two volunteers at most, against our English texts of the same instructions; the wording is free, so scores
are low whatever is understood. No Gaelic text exists: no word error rate.

| token | chrF | BLEU | off target | chosen by |
| --- | --- | --- | --- | --- |
{table}

Permuted references, under the chosen token: chrF {against.value:.1f}; above them {above.value:+.1f} [{low:+.1f}, {high:+.1f}],
p {above.p_randomisation:.3f}: **{verdict}**. Of all English texts of the collection the right one is nearest (chrF) to
{share(sum(same(near[i], english[i]) for i in english), len(english))} of the decoded ones. With phrases where they are sure
({share(len(sure), len(found))}, {share(sum(f.right for f in sure), len(sure))} of these right): chrF {before.value:.1f} → {after.value:.1f},
{change.value:+.1f} [{least:+.1f}, {most:+.1f}].
"""


def interval(score: Score) -> str:
    """A score with its interval."""
    low, high = score.ci or (0.0, 0.0)
    return f"{score.value:.1f} [{low:.1f}, {high:.1f}]"


def arrow(change: Change, form: str = ".1f") -> str:
    """A score before and after."""
    return " → ".join(f"{side.value:{form}}" if side else "–" for side in (change.before, change.after))


# ---------------------------------------------------------------- transfer to German


def transfer_section(root: Path, targets: Sequence[str]) -> str:
    """Decoders trained on English speech alone, on German prompts of held-out clusters."""
    prompts, german = split_by_cluster(prepare_prompts(), FOLD), other_voice(root, "de")
    held = {u.meaning for u in prompts if u.split == "test"}
    spoken = [u for u in german if u.meaning in held]
    meanings = {u.meaning for u in spoken}
    english = [u for u in prompts if u.language == "en" and u.meaning in meanings]
    clusters = {u.id: u.group for u in english}
    of_meaning = {u.meaning: clusters[u.id] for u in english}
    tested = [*(msgspec.structs.replace(u, cluster=of_meaning[u.meaning]) for u in spoken), *english]
    states = encoded(tested, "decoding-german", context=CONTEXT)
    lines = []
    for target in targets:
        model = trained(prompts, target)
        tasks = new_tasks(load_whisper("base"), ["de", "en"], target, "target-transcribe")
        sides = [
            kept_outputs(
                OUT / f"german-{side}-{target}-{FOLD}.jsonl", partial(load_whisper, spec), tasks, tested, states, side
            )
            for side, spec in (("before", "base"), ("after", model))
        ]
        for found in transfer_rows(sides[0], sides[1], tested, ("en",)):
            change = found.chrf.difference
            assert change is not None
            low, high = change.ci or (0.0, 0.0)
            speech = language_name(found.source) + (", trained on" if found.trained else ", never trained on")
            lines.append(
                f"| {speech} | {language_name(target)} | {found.n} | {arrow(found.chrf)}, "
                f"{change.value:+.1f} [{low:+.1f}, {high:+.1f}] | {arrow(found.bleu)} | {arrow(found.off_target, '.0%')} |"
            )
    table = "\n".join(lines)
    return f"""
## Transfer to German

The decoder is trained on English prompts alone (`interlingua finetune`, its default, fold {FOLD}) and translates German ones of
another voice, 8 kHz, whose clusters are held out; English prompts of the same clusters beside them. Before: the
untrained model with the target's prompt.

| speech | into | n | chrF | BLEU | off target |
| --- | --- | --- | --- | --- | --- |
{table}
"""


def trained(prompts: Sequence[Utterance], target: str) -> Path:
    """The model folder of a training on a fold of the prompts, kept or made."""
    data = KEPT / f"prompts-{FOLD}.jsonl"
    out = data.with_name(f"{target}-{FOLD}")
    if not (out / "results.json").exists():
        write_manifest(data, [u for u in prompts if u.split != "test"])  # which is measured here
        encoded(prompts, "decoding", context=CONTEXT)
        run_finetune(FinetuneConfig(str(data), target=target, out=out, store=(str(OUT / "decoding.lance"),)))
    return out / "model"


if __name__ == "__main__":
    main()
