"""Translation of other voices and families than the prompts corpus has; writes docs/voices-translation.md.

Phrases against decoding, a language without a token, and transfer to German, on the clones of `voices`. The page is
written after each part. Frames, models and outputs are kept in runs/, so that an interrupted run goes on; two trainings
take most of an hour.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import msgspec

from interlingua.corpora import prepare_prompts, split_by_cluster, write_manifest
from interlingua.corpora.base import read_corpus
from interlingua.encoding import FrameStore
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.finetune import kept_outputs, run_finetune
from interlingua.experiments.unseen import UnseenStudy, run_unseen_study
from interlingua.files import write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.evaluate import new_tasks, transfer_rows
from interlingua.index import Phrases, build
from interlingua.index.phrases import HITS
from interlingua.languages import language_name
from interlingua.metrics import SystemOutputs, pooled_difference, segment_scores, translation_statistics
from interlingua.models import load_whisper
from interlingua.results import load_results
from interlingua.translation import Translator
from interlingua.types import Score, Utterance
from stores import OUT, encoded, key, subset
from voices import POOL, clones, other_voice

PAGE = Path(__file__).resolve().parent.parent / "docs" / "voices-translation.md"
KEPT = Path("runs/voices")
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
    for section, name in ((phrases_section, "gcompris"), (unseen_section, "gcompris"), (transfer_section, "asterisk")):
        parts.append(section(roots[name]))
        write_text(PAGE, "".join(parts))
    print(f"{PAGE} written")


# ---------------------------------------------------------------- translation by retrieval


@dataclass(frozen=True)
class Tried:
    """A recording translated with phrases: what the decoder wrote, what is shown, and the nearest phrase.

    ``unsure``: the decoder, of some of it; ``sure``: the match.
    """

    id: str
    english: str
    cluster: str
    decoded: str
    shown: str
    unsure: bool
    answered: bool
    nearest: str
    sure: bool


def tried(name: str, utterances: Sequence[Utterance], store: FrameStore, language: str) -> tuple[float, list[Tried]]:
    """The margin of an index of the other languages, and a language's recordings translated with it, kept or anew."""
    code = ("index", "retrieval", "translation")
    path = OUT / f"phrases-{name}-{language}-{key(code, [(u.id, u.translations) for u in utterances])}.json"
    if path.exists():
        margin, rows = json.loads(path.read_text(encoding="utf-8"))
        return margin, [Tried(**row) for row in rows]
    others = [u for u in utterances if u.language != language]
    spoken = [u for u in utterances if u.language == language and u.translations.get("en")]
    frames = subset(store, others, OUT / f"phrases-{name}-without-{language}.lance")
    index, _ = build([], OUT / f"phrases-{name}-without-{language}", stores=[frames])
    book = Phrases(index, ["en"])
    translator = Translator("base", phrases=book)
    found = []
    for u, translation in zip(
        spoken, translator.translate_all([(u.id, u.audio) for u in spoken], source=language), strict=True
    ):
        segments = translation.segments
        (frame,) = index.encode([u.audio])
        best = book.best(index.search(frame, HITS, language=language), "en")
        assert best is not None  # all phrases have English texts
        found.append(
            Tried(
                id=u.id,
                english=u.translations["en"],
                cluster=u.group,
                decoded=" ".join(s.phrase.decoded if s.phrase else s.text for s in segments),
                shown=translation.text,
                unsure=language not in translator.engine.whisper.languages
                or not segments
                or any(s.flags for s in segments),
                answered=any(s.phrase for s in segments),
                nearest=best[0],
                sure=best[1].margin >= book.margin("en"),
            )
        )
    write_text(path, json.dumps([book.margin("en"), [asdict(t) for t in found]], ensure_ascii=False))
    return book.margin("en"), found


def nearest_texts(outputs: Mapping[str, str], texts: Sequence[str]) -> dict[str, str]:
    """The text of the collection that is nearest to each output by chrF; "" for none."""
    scores = [segment_scores(outputs, dict.fromkeys(outputs, text), metric="chrf") for text in texts]
    found = {i: max(range(len(texts)), key=lambda n: scores[n][i]) for i in outputs}
    return {i: texts[n] if scores[n][i] else "" for i, n in found.items()}


def same(a: str, b: str) -> bool:
    """Whether two texts are one but for case and spaces."""
    return a.casefold().split() == b.casefold().split()


def phrases_section(root: Path) -> str:
    """Translation by retrieval against decoding."""
    gcompris, prompts = list(read_corpus("gcompris", root)), prepare_prompts()
    sets = (
        ("gcompris", gcompris, encoded(gcompris, "gcompris", pooling=POOL), "gd"),
        ("prompts", prompts, encoded(prompts, "prompts-pooled", pooling=POOL), "ru"),
    )
    lines, examples = [], []
    for name, utterances, store, language in sets:
        margin, found = tried(name, utterances, store, language)
        texts = sorted({u.translations["en"] for u in utterances if "en" in u.translations})
        clusters, references = {t.id: t.cluster for t in found}, {t.id: t.english for t in found}
        decoded, shown = {t.id: t.decoded for t in found}, {t.id: t.shown for t in found}
        near = nearest_texts(decoded, texts)
        after, before = (
            translation_statistics(SystemOutputs(side, references, clusters, "en"), "chrf") for side in (shown, decoded)
        )
        change = pooled_difference([after], [before])
        low, high = change.ci or (0.0, 0.0)
        answered, sure = [t for t in found if t.answered], [t for t in found if t.sure]
        cells = [
            language_name(language),
            str(len(found)),
            share(sum(same(near[t.id], t.english) for t in found), len(found)),
            share(sum(t.unsure for t in found), len(found)),
            share(len(answered), len(found)),
            share(sum(same(t.shown, t.english) for t in answered), len(answered)),
            f"{before.value:.1f} → {after.value:.1f}, {change.value:+.1f} [{low:+.1f}, {high:+.1f}]",
            f"{share(len(sure), len(found))}, {share(sum(same(t.nearest, t.english) for t in sure), len(sure))} right",
            share(sum(same(t.nearest, t.english) for t in found), len(found)),
            f"{margin:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if language == "gd":
            examples = answered[:: max(1, len(answered) // 4)][:4]
    table = "\n".join(lines)
    shown_examples = "\n".join(f"| {t.english} | {t.decoded[:90]} | {t.shown} |" for t in examples)
    return f"""
## Translation by retrieval: `translate --phrases`

```
interlingua index build phrases.jsonl --out phrases          # a manifest with English transcripts or translations
interlingua translate gaelic.ogg --from gd --phrases phrases
```

Recordings of a language against an index of all others' phrases, with the margin that the index calibrates on its own
languages: no Gaelic and no Russian has a part in it. A decoded text is right if, of all English texts of the
collection, it is nearest to the right one (chrF).

| language | recordings | decoding right | decoder unsure | answered by a phrase | right of those | chrF, decoding → with phrases | sure matches, decoder ignored | nearest phrase right, sure or not | margin |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{table}

| English | decoded | with phrases |
| --- | --- | --- |
{shown_examples}
"""


def share(n: int, of: int) -> str:
    """A part as a percentage with its count."""
    return f"{100 * n / of:.0f}% ({n})" if of else "–"


# ---------------------------------------------------------------- a language without a token


def unseen_section(root: Path) -> str:
    """Scottish Gaelic under every related token."""
    corpus = CorpusSource(name="gcompris", root=root, languages=("gd",))
    out = run_unseen_study(UnseenStudy(out=KEPT / "unseen", corpus=corpus))
    (gaelic,) = load_results(out)[0].unseen
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
    low, high = above.ci or (0.0, 0.0)
    verdict = "not above chance" if low <= 0 else "above chance"
    return f"""
## A language without a token: Scottish Gaelic into English

{gaelic.n} recordings, two volunteers at most, against our English texts of the same instructions; the wording is free, so scores
are low whatever is understood. No Gaelic text exists: no word error rate.

| token | chrF | BLEU | off target | chosen by |
| --- | --- | --- | --- | --- |
{table}

Permuted references, under the chosen token: chrF {against.value:.1f}; above them {above.value:+.1f} [{low:+.1f}, {high:+.1f}],
p {above.p_randomisation:.3f}: **{verdict}**.
"""


def interval(score: Score) -> str:
    """A score with its interval."""
    low, high = score.ci or (0.0, 0.0)
    return f"{score.value:.1f} [{low:.1f}, {high:.1f}]"


# ---------------------------------------------------------------- transfer to German


def transfer_section(root: Path) -> str:
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
    for target in TARGETS:
        model = trained(prompts, target)
        tasks = new_tasks(load_whisper("base"), ["de", "en"], target, "target-transcribe")
        sides = [
            kept_outputs(
                OUT / f"german-{side}-{target}-{FOLD}.jsonl", partial(load_whisper, spec), tasks, tested, states, side
            )
            for side, spec in (("before", "base"), ("after", model))
        ]
        for found in transfer_rows(sides[0], sides[1], tested, ("en",)):
            chrf, bleu, off = found.chrf, found.bleu, found.off_target
            assert all((chrf.before, chrf.after, chrf.difference, bleu.before, bleu.after, off.before, off.after))
            low, high = chrf.difference.ci or (0.0, 0.0)
            speech = language_name(found.source) + (", trained on" if found.trained else ", never trained on")
            lines.append(
                f"| {speech} | {language_name(target)} | {found.n} | {chrf.before.value:.1f} → {chrf.after.value:.1f}, "
                f"{chrf.difference.value:+.1f} [{low:+.1f}, {high:+.1f}] | {bleu.before.value:.1f} → {bleu.after.value:.1f} | "
                f"{100 * off.before.value:.0f}% → {100 * off.after.value:.0f}% |"
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
