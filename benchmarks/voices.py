"""Retrieval between other voices and further families than the prompts corpus has; writes docs/voices.md.

GCompris' instructions (a volunteer a language) and Asterisk prompts of other voices, cloned into the cache unless
``--gcompris`` and ``--asterisk`` name clones. Frames are kept in runs/study/, so that an interrupted run goes on.
"""

import argparse
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np

from interlingua.corpora import prepare_prompts
from interlingua.corpora.base import read_corpus
from interlingua.corpora.distance import language_distance, language_family
from interlingua.experiments.retrieval import Corpus, score_pairs
from interlingua.files import cache_dir, write_text
from interlingua.languages import language_name
from interlingua.metrics.correlation import rank_correlation
from interlingua.resampling import RETRIEVAL_DRAWS, cluster_draws, percentile_interval
from interlingua.retrieval.evaluate import evaluate_scores
from interlingua.retrieval.methods import DEFAULT_METHOD, METHODS
from interlingua.types import Utterance
from stores import OUT, encoded, key

PAGE = Path(__file__).resolve().parent.parent / "docs" / "voices.md"
METHODS_SHOWN = ("mean-pool", "seqsim", DEFAULT_METHOD)
POOL = 4
LEAST = 70  # recordings a language
VOICES = ("de", "es", "fr")  # of the second tree
SOURCES = {"gcompris": "gcompris/GCompris-voices", "asterisk": "beroNet/asterisk-sounds"}

Hits = dict[tuple[str, str], tuple[np.ndarray, list[str]]]
"""(query, candidate) -> whether each answerable query's best positive is first, and the queries' clusters."""


def main() -> None:
    """Measure, and write the page."""
    roots = clones(str(__doc__))
    write_text(PAGE, page(families(roots["gcompris"]), voices(roots["asterisk"])))
    print(f"{PAGE} written")


def clones(about: str) -> dict[str, Path]:
    """The clones that the command line names, or those in the cache."""
    parser = argparse.ArgumentParser(description=about)
    for name in SOURCES:
        parser.add_argument(f"--{name}", type=Path, help="a clone of its repository")
    given = vars(parser.parse_args())
    return {name: given[name] or cloned(repository) for name, repository in SOURCES.items()}


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
        found[method] = first_hits(corpus, pairs, score_pairs(corpus, METHODS[method], pairs, label=method))
        write_text(path, json.dumps([(*pair, one.tolist(), cs) for pair, (one, cs) in found[method].items()]))
    return found


def first_hits(
    corpus: Corpus, pairs: Sequence[tuple[str, str]], scored: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Hits:
    """Hits in both directions of every pair, from their scores."""
    found: Hits = {}
    for (a, b), directions in zip(pairs, scored, strict=True):
        for (query, candidate), scores in zip(((a, b), (b, a)), directions, strict=True):
            sides = corpus.items[query], corpus.items[candidate]
            ranks = evaluate_scores(scores, *sides).ranks
            there = ~np.isnan(ranks)
            clusters = [c for c, answerable in zip(sides[0].clusters, there, strict=True) if answerable]
            found[query, candidate] = (ranks[there] <= 1).astype(float), clusters
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
    shown = " | ".join(f"{means(found[m], pairs)[0]:.1f}" for m in METHODS_SHOWN)
    return f"| {label} | {len(pairs)} | {shown} | {'{:+.1f} [{:+.1f}, {:+.1f}]'.format(*gain(found, pairs))} |"


def gain(found: dict[str, Hits], pairs: Sequence[tuple[str, str]]) -> tuple[float, float, float]:
    """What the default method gains over SeqSim, and its interval."""
    (plain, plain_draws), (best, best_draws) = (means(found[m], pairs) for m in ("seqsim", DEFAULT_METHOD))
    return best - plain, *percentile_interval(best_draws - plain_draws)


def page(spoken: dict[str, Hits], prompts: dict[str, Hits]) -> str:
    """The page."""
    pairs = list(spoken["seqsim"])
    languages = sorted({a for a, _ in pairs})
    head = f"| | pairs | {' | '.join(METHODS_SHOWN)} | gain over SeqSim |\n| --- | --- | --- | --- | --- | --- |"
    of_language = {lang: [p for p in pairs if lang in p] for lang in languages}
    by_language = [
        row(
            f"{language_name(lang)} ({language_family(lang)}, {len(spoken['seqsim'][lang, 'en' if lang != 'en' else 'fr'][0])})",
            spoken,
            of_language[lang],
        )
        for lang in languages
    ]
    apart = {p: far for p in pairs if (far := language_distance(*p)) is not None}
    distance = {
        m: rank_correlation(list(apart.values()), [float(spoken[m][p][0].mean()) for p in apart]) for m in METHODS_SHOWN
    }
    same = [(f"{lang}-2", lang) for lang in ("es", "fr")]
    same += [(b, a) for a, b in same]
    other = [p for p in prompts["seqsim"] if p not in same]
    german = [p for p in other if "de-2" in p]
    sure = sum(gain(spoken, some)[1] > 0 for some in of_language.values())
    farthest = min(languages, key=lambda lang: means(spoken[DEFAULT_METHOD], of_language[lang])[0])
    least = means(spoken[DEFAULT_METHOD], of_language[farthest])[0]
    shown = "\n".join(by_language)
    correlations = ", ".join(f"`{m}` {found.value:.2f}" for m, found in distance.items())
    return f"""# Other voices, other families

Written by `make bench-voices` (`benchmarks/voices.py`), not by hand. Mean R@1 in percent over ordered pairs of languages,
Whisper-base, frames pooled by {POOL}; intervals are percentile bootstrap over clusters of near-duplicate sentences.
The default method was chosen on the prompts corpus: neither collection had a part in it.

- What holds: the default method gains {gain(spoken, pairs)[0]:+.0f} points over SeqSim where every language has another speaker, with
  an interval above 0 in {sure} of {len(languages)} languages; {gain(prompts, other)[0]:+.0f} where others speak the prompts in another language.
- What doesn't: distance counts. {language_name(farthest)}, the hardest, is found first in {least:.0f}% only; a trained head ([head.md](head.md)) gains most among
  the languages that it was trained on.
- Decoding doesn't reach Scottish Gaelic, retrieval does; German is translated after training on English alone: [translation of the same
  speech](voices-translation.md).

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


if __name__ == "__main__":
    main()
