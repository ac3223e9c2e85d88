"""Retrieval and translation of other voices and families than the prompts corpus has; writes docs/voices.md.

GCompris' instructions (a volunteer a language) and Asterisk prompts of other voices, cloned into the cache unless
``--gcompris`` and ``--asterisk`` name clones. Frames, models and outputs are kept in runs/, so that an interrupted run
goes on; two trainings take most of the hour.
"""

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np

from interlingua.corpora import prepare_prompts, split_by_cluster, write_manifest
from interlingua.corpora.base import read_corpus
from interlingua.corpora.distance import language_distance, language_family
from interlingua.encoding import FrameStore
from interlingua.experiments.corpus_source import CorpusSource
from interlingua.experiments.finetune import kept_outputs, run_finetune
from interlingua.experiments.retrieval import Corpus, score_pairs
from interlingua.experiments.unseen import UnseenStudy, run_unseen_study
from interlingua.files import cache_dir, write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.finetuning.evaluate import new_tasks, transfer_rows
from interlingua.index import Phrases, build
from interlingua.index.phrases import HITS
from interlingua.languages import language_name
from interlingua.metrics import SystemOutputs, pooled_difference, segment_scores, translation_statistics
from interlingua.metrics.correlation import rank_correlation
from interlingua.models import load_whisper
from interlingua.resampling import RETRIEVAL_DRAWS, cluster_draws, percentile_interval
from interlingua.results import load_results
from interlingua.retrieval.evaluate import evaluate_scores
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS
from interlingua.translation import Translator
from interlingua.types import Score, Utterance
from stores import OUT, encoded, key, subset

PAGE = Path(__file__).resolve().parent.parent / "docs" / "voices.md"
METHODS_SHOWN = ("mean-pool", "seqsim", DEFAULT_METHOD)
POOL = 4
LEAST = 70  # recordings a language
VOICES = ("de", "es", "fr")  # of the second tree
TARGETS, FOLD, CONTEXT = ("zh", "es"), 0, "speech+8"  # of the trainings
SOURCES = {"gcompris": "gcompris/GCompris-voices", "asterisk": "beroNet/asterisk-sounds"}

Hits = dict[tuple[str, str], tuple[np.ndarray, list[str]]]
"""(query, candidate) -> whether each answerable query's best positive is first, and the queries' clusters."""


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in SOURCES:
        parser.add_argument(f"--{name}", type=Path, help="a clone of its repository")
    given = vars(parser.parse_args())
    roots = {name: given[name] or cloned(repository) for name, repository in SOURCES.items()}
    shown = page(families(roots["gcompris"]), voices(roots["asterisk"]))
    shown += phrases_section(roots["gcompris"]) + unseen_section(roots["gcompris"])
    write_text(PAGE, shown + transfer_section(roots["asterisk"]))
    print(f"{PAGE} written")


def cloned(repository: str) -> Path:
    """A shallow clone of a public repository in the cache."""
    folder = cache_dir() / "corpora" / repository.replace("/", "-")
    if not folder.exists():
        subprocess.run(["git", "clone", "--depth", "1", f"https://github.com/{repository}", str(folder)], check=True)
    return folder


def families(root: Path) -> dict[str, Hits]:
    """Hits of every method between all languages of GCompris' instructions."""
    utterances = list(read_corpus("gcompris", root))
    corpus = Corpus.of(utterances, encoded(utterances, "gcompris", pooling=POOL))
    languages = [lang for lang in corpus.items if len(corpus.items[lang]) >= LEAST]
    return hits("gcompris", corpus, list(combinations(sorted(languages), 2)))


def voices(root: Path) -> dict[str, Hits]:
    """Hits of every method between the prompts and other voices."""
    return hits("asterisk", *other_voices(root))


def other_voices(root: Path) -> tuple[Corpus, list[tuple[str, str]]]:
    """The prompts with other voices, which are called ``<language>-2``, and the pairs of both."""
    prompts = prepare_prompts()
    first = Corpus.of(prompts, encoded(prompts, "prompts-pooled", pooling=POOL))
    others = [msgspec.structs.replace(u, id=f"2/{u.id}") for lang in VOICES for u in other_voice(root, lang)]
    second = Corpus.of(others, encoded(others, "asterisk", pooling=POOL))
    merged = replace(
        first,
        **{
            part: getattr(first, part) | {f"{lang}-2": side for lang, side in getattr(second, part).items()}
            for part in ("items", "frames", "seconds")
        },
    )
    return merged, [(f"{a}-2", b) for a in VOICES for b in first.items]


def other_voice(root: Path, language: str) -> list[Utterance]:
    """The second tree's prompts of a language."""
    folder = root / f"asterisk_sounds_{language}/work/userapp/lib/asterisk/sounds"
    return list(read_corpus("asterisk", folder, languages=(language,)))


def hits(name: str, corpus: Corpus, pairs: Sequence[tuple[str, str]]) -> dict[str, Hits]:
    """Both directions of every pair under every method, from the folder or anew."""
    found: dict[str, Hits] = {}
    for method in METHODS_SHOWN:
        ids = [items.ids for items in corpus.items.values()]
        path = OUT / f"voices-{name}-{key(('retrieval', 'experiments/retrieval.py'), method, pairs, ids)}.json"
        if path.exists():
            rows = json.loads(path.read_text(encoding="utf-8"))
            found[method] = {(query, candidate): (np.array(one), clusters) for query, candidate, one, clusters in rows}
            continue
        found[method] = {}
        scored = score_pairs(corpus, METHODS[method], pairs, label=method)
        for (a, b), directions in zip(pairs, scored, strict=True):
            for (query, candidate), scores in zip(((a, b), (b, a)), directions, strict=True):
                sides = corpus.items[query], corpus.items[candidate]
                ranks = evaluate_scores(scores, *sides).ranks
                there = ~np.isnan(ranks)
                clusters = [c for c, answerable in zip(sides[0].clusters, there, strict=True) if answerable]
                found[method][query, candidate] = (ranks[there] <= 1).astype(float), clusters
        write_text(path, json.dumps([(*pair, one.tolist(), cs) for pair, (one, cs) in found[method].items()]))
    return found


def means(found: Hits, pairs: Sequence[tuple[str, str]]) -> tuple[float, np.ndarray]:
    """Mean R@1 of pairs in percent, and its bootstrap draws over clusters, which are the same for every method."""
    names = sorted({c for pair in pairs for c in found[pair][1]})
    index = {name: i for i, name in enumerate(names)}
    draws = cluster_draws(len(names), RETRIEVAL_DRAWS)
    values, sampled = [], []
    for pair in pairs:
        one, clusters = found[pair]
        of = [index[c] for c in clusters]
        sums, sizes = np.bincount(of, one, len(names)), np.bincount(of, minlength=len(names))
        values.append(one.mean())
        sampled.append((draws @ sums) / np.maximum(draws @ sizes, 1))
    return 100 * float(np.mean(values)), 100 * np.mean(sampled, axis=0)


def row(label: str, found: dict[str, Hits], pairs: Sequence[tuple[str, str]]) -> str:
    """A row of a table: mean R@1 by method, and the default method's gain over SeqSim with its interval."""
    by_method = {method: means(found[method], pairs) for method in METHODS_SHOWN}
    (plain, plain_draws), (best, best_draws) = by_method["seqsim"], by_method[DEFAULT_METHOD]
    low, high = percentile_interval(best_draws - plain_draws)
    shown = " | ".join(f"{by_method[m][0]:.1f}" for m in METHODS_SHOWN)
    return f"| {label} | {len(pairs)} | {shown} | {best - plain:+.1f} [{low:+.1f}, {high:+.1f}] |"


def page(spoken: dict[str, Hits], prompts: dict[str, Hits]) -> str:
    """The page."""
    pairs = list(spoken["seqsim"])
    languages = sorted({a for a, _ in pairs})
    head = f"| | pairs | {' | '.join(METHODS_SHOWN)} | gain over SeqSim |\n| --- | --- | --- | --- | --- | --- |"
    by_language = [
        row(
            f"{language_name(lang)} ({language_family(lang)}, {len(spoken['seqsim'][lang, 'en' if lang != 'en' else 'fr'][0])})",
            spoken,
            [p for p in pairs if lang in p],
        )
        for lang in languages
    ]
    apart = {p: distance for p in pairs if (distance := language_distance(*p)) is not None}
    distance = {
        m: rank_correlation(list(apart.values()), [float(spoken[m][p][0].mean()) for p in apart]) for m in METHODS_SHOWN
    }
    same = [(f"{lang}-2", lang) for lang in ("es", "fr")]
    same += [(b, a) for a, b in same]
    other = [p for p in prompts["seqsim"] if p not in same]
    german = [p for p in other if "de-2" in p]
    shown = "\n".join(by_language)
    correlations = ", ".join(f"`{m}` {found.value:.2f}" for m, found in distance.items())
    return f"""# Other voices, other families

Written by `make bench-voices` (`benchmarks/voices.py`), not by hand. Mean R@1 in percent over ordered pairs of languages,
Whisper-base, frames pooled by {POOL}; intervals are percentile bootstrap over clusters of near-duplicate sentences.
The default method was chosen on the prompts corpus: neither collection had a part in it.

```
interlingua corpus prepare gcompris --root GCompris-voices --out manifest.jsonl
interlingua corpus prepare asterisk --root sounds --languages de --out german.jsonl
```

## A volunteer a language: GCompris' instructions

{head}
{row("all", spoken, pairs)}
{shown}

In brackets: family, and how many queries into English (French for English) can be answered. Spearman's rank correlation of R@1
with URIEL's typological distance over {len(apart)} of the pairs: {correlations}.

## Other voices of the prompts corpus, 8 kHz

{head}
{row("other voice, same language (es, fr)", prompts, same)}
{row("other voice, other language (de, es, fr with en, es, fr, it, ru)", prompts, other)}
{row("German alone", prompts, german)}
"""


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
    out = run_unseen_study(UnseenStudy(out=Path("runs/voices/unseen"), corpus=corpus))
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
    data = Path("runs/voices") / f"prompts-{FOLD}.jsonl"
    out = data.with_name(f"{target}-{FOLD}")
    if not (out / "results.json").exists():
        write_manifest(data, prompts)
        encoded(prompts, "decoding", context=CONTEXT)
        run_finetune(FinetuneConfig(str(data), target=target, out=out, store=(str(OUT / "decoding.lance"),)))
    return out / "model"


if __name__ == "__main__":
    main()
