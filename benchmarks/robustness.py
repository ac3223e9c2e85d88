"""Retrieval and translation against language distance, and the page docs/robustness.md.

Runs recipes/robustness-prompts.yaml (half an hour on two cores; interrupted, it goes on where it was), and writes the page.
With ``--as-is`` nothing is run: the page shows what was measured.
"""

import sys
from pathlib import Path

from interlingua.corpora.distance import KINDS, language_distance, language_family
from interlingua.corpora.fleurs import fleurs_code
from interlingua.experiments.recipes import read_recipe
from interlingua.experiments.robustness import RobustnessStudy, run_robustness_study
from interlingua.files import write_text
from interlingua.languages import WHISPER_LANGUAGES, language_name, normalise_languages
from interlingua.results import Distant, RankCorrelation, Results, Retrieval, load_results
from interlingua.translation.unseen import DEFAULT_RULE, RELATED
from interlingua.types import Score

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "robustness.md"
MEASURES = {
    "to_pivot": "R@1 to en",
    "from_pivot": "R@1 from en",
    "bleu": "BLEU",
    "chrf": "chrF",
    "off_target": "off-target rate",
    "wer": "WER",
    "cer": "CER",
}


def main() -> None:
    """Measure what isn't measured yet, and write the page."""
    prompts, fleurs = (read_recipe(ROOT / "recipes" / f"robustness-{name}.yaml") for name in ("prompts", "fleurs"))
    assert isinstance(prompts, RobustnessStudy)
    assert isinstance(fleurs, RobustnessStudy)
    out = prompts.out if "--as-is" in sys.argv else run_robustness_study(prompts)
    write_text(PAGE, page(load_results(out)[0], fleurs))
    print(f"{PAGE} written")


def page(results: Results, fleurs: RobustnessStudy) -> str:
    """The page."""
    found, made = results.robustness, results.provenance
    assert found is not None
    main_method, *others = found.methods
    rows = sorted(found.languages, key=lambda r: r.distance["typological"] or 0.0)
    lost = ", ".join(f"`{line.partition(':')[0]}`" for line in results.failures)
    lost = f"Too long for the context, and counted as missed: {lost}." if lost else ""
    return f"""# Does it hold out against language distance?

Written by `make bench-robustness` (`benchmarks/robustness.py`), not by hand.

The recipe `robustness` takes a parallel corpus and a pivot (English unless `pivot:` says otherwise), and measures of every language:

- R@1 of retrieval to and from the pivot's speech, by each of `methods` (duration alone is among them, as a control);
- BLEU, chrF and off-target rate of its speech translated into English, and WER and CER of its transcripts;
- whether Whisper has a token for it. One that has none is decoded under proxy languages' tokens, of which the rule `{
        DEFAULT_RULE
    }` takes one without
  references ([unseen.md](unseen.md)); the report has its scores against permuted references too.

With them are two distances to the pivot, and Spearman's rank correlation of every measure with each, over all languages and
over those with a token alone (a language without one is mostly a distant one, so the two must be kept apart). p is by permutation of
the languages. All scores have 95% intervals over clusters of sentences, and the report draws R@1 and BLEU against distance.

**The same sentences.** R@1 depends on how many sentences there are to choose from, so only sentences that every language has are compared
(`same_sentences: false` takes all), and `positives: first` keeps one recording of each.

**Distance** is URIEL's (Littell et al., 2017; `corpora/distance.py`), 0 to 1. *Typological*: the cosine distance of 289 features of grammar,
phonology and sound inventory; what was never described of a language is URIEL's guess from its neighbours. *Genealogical*: 1 - 2s/(d+e), where the
languages lie d and e levels deep in Glottolog's tree and share s groups; it is 1 between any two families, so it tells most languages apart in one
way only, and families are cut into more or fewer levels. Neither is how alike two languages sound.

## On FLEURS

```
interlingua run recipes/robustness-fleurs.yaml --dry-run    # hours of audio, disk
interlingua run recipes/robustness-fleurs.yaml
```

FLEURS can't be fetched from the machine that wrote this page: these are the recipe's languages and their distances to English, and no results.

{fleurs_table(fleurs)}

## On the prompts corpus

`interlingua run recipes/robustness-prompts.yaml`, {str(made.started)[:10]}, {made.device["name"]}: {
        results.settings["model"]
    }, {rows[0].n} prompts of each language, frames pooled
by {results.settings["pool"]} for retrieval; {found.rules[0]}. **Four languages,
all of them Indo-European and seen by Whisper, can't settle this**: with four, p is never below 0.083, and the table shows only that the
machinery runs on real speech. {lost}

{languages_table(rows, main_method, others)}

R@1 in per cent by `{main_method}`; then by {" and ".join(f"`{m}`" for m in others)}, to / from English; chance is {
        100 * (rows[0].to_pivot[main_method].chance or 0):.1f}%.

{correlation_table(found.correlations, main_method)}
"""


def fleurs_table(study: RobustnessStudy) -> str:
    """The recipe's languages and their distances."""
    codes = [code for code in normalise_languages(study.corpus.languages) if code != study.pivot]
    distances = {code: [language_distance(code, study.pivot, kind) for kind in KINDS] for code in codes}
    lines = [
        [
            language_name(code),
            f"`{fleurs_code(code)}`",
            language_family(code) or "",
            *("" if d is None else f"{d:.2f}" for d in distances[code]),
            "its own" if code in WHISPER_LANGUAGES else ", ".join(f"`{t}`" for t in RELATED[code]),
        ]
        for code in sorted(codes, key=lambda code: distances[code][0] or 0.0)
    ]
    return table(["language", "FLEURS", "family", *KINDS, "tokens tried"], lines)


def languages_table(rows: list[Distant], main_method: str, others: list[str]) -> str:
    """Every language's distance and scores."""
    lines = [
        [
            f"{r.name} (`{r.token}`)",
            *("" if r.distance[kind] is None else f"{r.distance[kind]:.2f}" for kind in KINDS),
            str(r.n),
            recall(r.to_pivot[main_method]),
            recall(r.from_pivot[main_method]),
            *(f"{100 * r.to_pivot[m].r1:.1f} / {100 * r.from_pivot[m].r1:.1f}" for m in others),
            *(score(found) for found in (r.bleu, r.chrf)),
            score(r.off_target, 100),
            *(score(found) for found in (r.wer, r.cer)),
        ]
        for r in rows
    ]
    head = ["language (token)", *KINDS, "n", "R@1 to en", "R@1 from en", *(f"`{m}`" for m in others)]
    return table([*head, "BLEU", "chrF", "off target, %", "WER, %", "CER, %"], lines)


def correlation_table(found: list[RankCorrelation], main_method: str) -> str:
    """Rank correlations over all languages."""
    lines = []
    for measure, name in MEASURES.items():
        cells = [
            "" if c.value is None else f"{c.value:+.2f}, p {c.p:.3f}"
            for kind in KINDS
            for c in found
            if (c.measure, c.kind, c.seen_only) == (measure, kind, False) and c.method in (None, main_method)
        ]
        lines.append([name, *cells])
    return table(["Spearman's ρ with distance", *KINDS], lines)


def recall(found: Retrieval) -> str:
    """R@1 in per cent with its interval."""
    return score(Score(value=found.r1, ci=found.r1_ci), 100)


def score(found: Score | None, scale: float = 1) -> str:
    """A score with its interval."""
    if found is None or found.ci is None:
        return ""
    low, high = found.ci
    return f"{scale * found.value:.1f} [{scale * low:.1f}, {scale * high:.1f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    main()
