"""Translation of other voices and families than the prompts corpus has; writes docs/voices-translation.md.

Phrases against decoding, a language without a token, and transfer to German, on the clones of `voices`. The page is
written after each part. Frames, models and outputs are kept in runs/, so that an interrupted run goes on; two trainings
take most of an hour.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from interlingua.corpora import prepare_prompts, split_by_cluster, write_manifest
from interlingua.corpora.base import read_corpus
from interlingua.encoding import FrameStore
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.finetune import kept_outputs, run_finetune
from interlingua.experiments.unseen import UnseenStudy, permuted, run_unseen_study
from interlingua.files import write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.evaluate import new_tasks, parts_of, transfer_rows
from interlingua.index import Phrases, build
from interlingua.languages import language_name
from interlingua.metrics import SystemOutputs, pooled_difference, segment_scores, translation_statistics
from interlingua.models import load_whisper
from interlingua.results import Change, load_results
from interlingua.translation import Translator
from interlingua.types import Difference, Score, Utterance
from stores import COMPUTE, OUT, encoded, key, subset
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


class Found(msgspec.Struct, frozen=True):
    """A recording, its English text, and the nearest one; what the decoder wrote, and what `translate --phrases` wrote.

    ``answered``: a phrase took the place of what the decoder wrote; ``margin``: of a sure match.
    """

    id: str
    english: str
    nearest: str
    decoded: str
    shown: str
    answered: bool
    margin: float


def retrieved(
    name: str, utterances: Sequence[Utterance], store: FrameStore, language: str, *, heard: bool
) -> list[Found]:
    """What an index of the other languages finds for every recording of a language.

    ``heard``: it also holds half of that language's recordings, without texts, for the other half of the clusters.
    """
    spoken = [u for u in utterances if u.language == language and u.translations.get("en")]
    others = [u for u in utterances if u.language != language]
    halves: list[list[Utterance]] = [[], []]
    for u in spoken:
        halves[int(key((), u.group), 16) % 2].append(u)
    found = []
    for tested, unlabelled in (halves, halves[::-1]) if heard else [(spoken, [])]:
        bare = [msgspec.structs.replace(u, text=None, meaning=None, cluster=None, translations={}) for u in unlabelled]
        held, code = [*others, *bare], ("index", "retrieval", "translation")
        label = OUT / f"phrases-{name}-{key(code, [u.id for u in held], [u.id for u in tested], COMPUTE)}"
        kept = label.with_suffix(".json")
        if not kept.exists():
            index, _ = build([], label, stores=[subset(store, held, label.with_suffix(".lance"))])
            made = answers(Phrases(index, ["en"]), tested, store, language)
            write_text(kept, msgspec.json.encode(made).decode())
        found += msgspec.json.decode(kept.read_bytes(), type=list[Found])
    return found


def answers(book: Phrases, tested: Sequence[Utterance], store: FrameStore, language: str) -> list[Found]:
    """Each recording as the index alone finds it, and as `translate --phrases` writes it."""
    queries = store.read([u.id for u in tested])
    nearest = [book.best(ranked, "en") for ranked in book.ranked(queries, [language] * len(tested))]
    recordings = [(u.id, u.audio) for u in tested]
    written = {t.id: t.segments for t in Translator("base", phrases=book).translate_all(recordings, source=language)}
    found = []
    for u, best in zip(tested, nearest, strict=True):
        assert best is not None  # all phrases have English texts
        segments = written[u.id]
        decoded = " ".join(s.phrase.decoded if s.phrase else s.text for s in segments)
        shown, answered = " ".join(s.text for s in segments), any(s.phrase for s in segments)
        margin = book.margin("en", language)
        found.append(Found(u.id, u.translations["en"], best[0], decoded, shown, answered, margin))
    return found


def nearest_texts(outputs: Mapping[str, str], texts: Sequence[str]) -> dict[str, str]:
    """The text of the collection that is nearest to each output by chrF; "" for none."""
    scores = [segment_scores(outputs, dict.fromkeys(outputs, text), metric="chrf") for text in texts]
    found = {i: max(range(len(texts)), key=lambda n: scores[n][i]) for i in outputs}
    return {i: texts[n] if scores[n][i] else "" for i, n in found.items()}


def same(a: str, b: str) -> bool:
    """Whether two texts are one but for case and spaces."""
    return a.casefold().split() == b.casefold().split()


def phrases_section(root: Path) -> str:
    """Translation by retrieval beside decoding."""
    gcompris, prompts = list(read_corpus("gcompris", root)), prepare_prompts()
    sets = {
        "gd": ("gcompris", gcompris, encoded(gcompris, "gcompris", pooling=POOL)),
        "ru": ("prompts", prompts, encoded(prompts, "prompts-pooled", pooling=POOL)),
    }
    lines = []
    for language, (name, utterances, store) in sets.items():
        clusters = {u.id: u.group for u in utterances}
        texts = sorted({u.translations["en"] for u in utterances if u.language == language and "en" in u.translations})
        for heard in (False, True):
            found = retrieved(name, utterances, store, language, heard=heard)
            english, answered = {f.id: f.english for f in found}, [f for f in found if f.answered]
            near = nearest_texts({f.id: f.decoded for f in found}, texts)
            after, before = (
                translation_statistics(SystemOutputs(side, english, {i: clusters[i] for i in english}, "en"), "chrf")
                for side in ({f.id: f.shown for f in found}, {f.id: f.decoded for f in found})
            )
            change = pooled_difference([after], [before])
            cells = [
                language_name(language),
                "half of it" if heard else "none",
                str(len(found)),
                share(sum(same(near[f.id], f.english) for f in found), len(found)),
                share(sum(same(f.nearest, f.english) for f in found), len(found)),
                ", ".join(f"{m:.3f}" for m in sorted({f.margin for f in found})),
                share(len(answered), len(found)),
                share(sum(same(f.shown, f.english) for f in answered), len(answered)),
                f"{before.value:.1f} → {after.value:.1f}, {with_sign(change)}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines)
    return f"""
## Translation by retrieval: `translate --phrases`

```
interlingua index build phrases.jsonl --out phrases          # a manifest with English transcripts or translations
interlingua index add phrases gaelic/ --language gd          # speech of the language itself: no texts, 20 recordings or more
interlingua translate gaelic.ogg --from gd --phrases phrases
```

Each recording of a language against an index of all others' phrases (GCompris' instructions for Gaelic, the prompts for
Russian), at the margin that the index calibrates on its own languages: no Gaelic and no Russian text has a part in it, and
90% of the answers are to be right even if half of what is spoken has no phrase. Here every recording has one.
"Half of it": the index also holds half of the language's recordings, without texts, and the other half is asked for, both
halves in turn: whitening and hubs are then of the language itself. A phrase answers where it is sure and the decoder isn't.
"Nearest": the right one is first among all texts, by chrF of what the decoder wrote, or by its phrases.

| language | its speech in the index | recordings | nearest to decoded | nearest by phrases | margin | answered | right of those | chrF, decoded → with phrases |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
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
    against = gaelic.permuted["chrf"]
    assert against.value is not None
    assert against.difference is not None
    table = "\n".join(lines)
    above = against.difference
    verdict = "above chance" if above.ci and above.ci[0] > 0 else "not above chance"
    return f"""
## A language without a token: Scottish Gaelic into English

{gaelic.n} recordings, drawn, by two volunteers at most, against our English texts of the same instructions; the wording is free, so scores
are low whatever is understood. No Gaelic text exists: no word error rate.

| token | chrF | BLEU | off target | chosen by |
| --- | --- | --- | --- | --- |
{table}

Permuted references, under the chosen token: chrF {against.value:.1f}; above them {with_sign(above)},
p {above.p_randomisation:.3f}: **{verdict}**.
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
        of_source = {parts_of(task)[1]: texts for task, texts in sides[1].items()}
        for found in transfer_rows(sides[0], sides[1], tested, ("en",)):
            texts = of_source[found.source]
            references = {u.id: u.translations[target] for u in tested if u.id in texts}
            against = permuted(texts, references, {u.id: u.group for u in tested if u.id in texts}, "chrf").difference
            assert against is not None
            change = found.chrf.difference
            assert change is not None
            speech = language_name(found.source) + (", trained on" if found.trained else ", never trained on")
            lines.append(
                f"| {speech} | {language_name(target)} | {found.n} | {arrow(found.chrf)}, "
                f"{with_sign(change)} | {arrow(found.bleu)} | {arrow(found.off_target, '.0%')} | {with_sign(against)} |"
            )
    table = "\n".join(lines)
    return f"""
## Transfer to German

The decoder is trained on English prompts alone (`interlingua finetune`, its default, fold {FOLD}) and translates German ones of
another voice, 8 kHz, whose clusters are held out; English prompts of the same clusters beside them. Before: the
untrained model with the target's prompt. Above permuted: chrF afterwards, less its mean against permuted references.

| speech | into | n | chrF | BLEU | off target | above permuted |
| --- | --- | --- | --- | --- | --- | --- |
{table}
"""


def with_sign(found: Difference) -> str:
    """A difference with its interval."""
    low, high = found.ci or (0.0, 0.0)
    return f"{found.value:+.1f} [{low:+.1f}, {high:+.1f}]"


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
