"""Languages that Whisper has no token for, and the page docs/unseen.md.

Runs both recipes (an hour on two cores; interrupted, it goes on where it was), and writes the page. With ``--as-is``
nothing is run: the page shows what was measured.
"""

import sys
from pathlib import Path

from interlingua.corpora import udhr
from interlingua.experiments.recipes import read_recipe
from interlingua.experiments.unseen import COPIED_WORDS, MOST_TOKENS, PERMUTATIONS, UnseenStudy, run_unseen_study
from interlingua.files import write_text
from interlingua.metrics import segment_scores
from interlingua.results import Results, UnderTokens, load_results
from interlingua.translation.unseen import DEFAULT_RULE
from interlingua.types import Difference, Score

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "unseen.md"
RECIPES = ("unseen-udhr", "unseen-prompts")


def main() -> None:
    """Measure what isn't measured yet, and write the page."""
    found = {}
    for name in RECIPES:
        study = read_recipe(ROOT / "recipes" / f"{name}.yaml")
        assert isinstance(study, UnseenStudy)
        out = study.out if "--as-is" in sys.argv else run_unseen_study(study)
        found[name], _ = load_results(out)
    write_text(PAGE, page(found["unseen-udhr"], found["unseen-prompts"]))
    print(f"{PAGE} written")


def page(declaration: Results, prompts: Results) -> str:
    """The page."""
    rows = declaration.unseen
    unseen = [r for r in rows if not r.seen]
    controls = [r for r in rows if r.own_token]
    above = [r.language for r in unseen if above_chance(r)]
    below = [r.language for r in unseen if not above_chance(r)]
    made = declaration.provenance
    return f"""# Languages that Whisper has no token for

Written by `make bench-unseen` (`benchmarks/unseen.py`), not by hand.

`interlingua translate --from ast` works without an Asturian token: related tokens are tried (`RELATED` in
`translation/unseen.py`: closest branch of the family first, then where a language's words come from, then neighbours), or
the one that `--as` names; where no relative is known, what Whisper's own language detection hears most. Which one is taken
without references, and how good the translations are, is measured here.

**The speech on the first tables is SYNTHETIC.** {udhr.TITLE}: {
        "; ".join(udhr.RULES)
    }. Asturian is read by espeak-ng's Aragonese voice, for want of one of its own; Aragonese itself has no text in the package. Neither
says how people are understood: the controls, languages that Whisper knows, in the same kind of voice and on the same
articles, say how much the voice alone costs.

{declaration.settings["model"]}, context `{
        declaration.settings["context"]
    }`, greedy, CTranslate2's int8 on a CPU, at most {MOST_TOKENS["translate"]} tokens a translation; {
        str(made.started)[:10]
    }, {made.device["name"]}. Intervals are 95% bootstrap intervals over articles.

## Translation and transcription

Unseen languages under the token that the rule `{
        DEFAULT_RULE
    }` takes, without references; below, the controls under their own.

{language_table(unseen + controls)}

"Above permuted" is the score less the mean over {
        PERMUTATIONS
    } ways of dealing the references out to other articles, paired;
p by randomisation. A model that writes likely phrases of the Declaration whatever it hears has 0 there. Above it (interval over 0):
{codes(above)}; not: {codes(below)}. "Copied" is the proportion of the reference's words in runs of {
        COPIED_WORDS
    } or more that stand word for word in the translation: the Declaration is on the web in English, and a model that knew it by heart would copy.
{words(unseen, controls)} BLEU of unseen languages above that of permuted references (p < 0.05): {
        codes([r.language for r in unseen if significant(above_permuted(r, "bleu"))])
    }.

Of each language the paragraph whose chrF is the median:

{examples(declaration)}

## Which token

chrF under every candidate, in the order of kinship; **bold** is what the rule takes, ★ the oracle.

{token_table([r for r in rows if not r.own_token])}

{rules_section(declaration, prompts)}

## On FLEURS

The paper's six (Kabuverdianu, Asturian, Irish, Sorani, Cebuano, Kyrgyz; its section 4.4) are read from FLEURS' own files, which can't be fetched from
the machine that wrote this page:

```
interlingua corpus prepare fleurs --root data/fleurs --languages kea_cv ast_es ga_ie ckb_iq ceb_ph ky_kg en_us --split test --download --out fleurs.jsonl
interlingua run recipes/unseen-fleurs.yaml --dry-run    # hours of audio, disk
interlingua run recipes/unseen-fleurs.yaml
```

Of English only the texts (`data/en_us/test.tsv`) are read: they are the references, joined by the sentence's id. A recording whose sentence English lacks
is skipped, and the report says how many. Recordings of one sentence are resampled together. The report has BLEU, chrF, WER and CER next to published
figures: `published: published.json` in the recipe names a file of your own, `{{"unseen": [{{"language": "kea", "bleu": …, "wer": …}}]}}`; without it the column
says that they aren't known here.
"""


def language_table(rows: list[UnderTokens]) -> str:
    """Scores of each language under the chosen token."""
    lines = []
    for row in rows:
        scores, above = row.scores, above_permuted(row, "chrf")
        lines.append(
            [
                f"{row.name} (`{row.language}`){'' if not row.seen else ', control'}",
                f"`{row.chosen}`",
                str(row.n),
                score(scores["bleu"]),
                score(scores["chrf"]),
                f"{row.permuted['chrf'].value:.1f}",
                f"{score(above, '+')}, p {above.p_randomisation:.3f}",
                "" if row.copied is None else f"{100 * row.copied:.0f}%",
                f"{100 * scores['off_target'].value:.0f}%",
                *(score(scores[rate]) if rate in scores else "" for rate in ("wer", "cer")),
            ]
        )
    head = [
        "language",
        "token",
        "n",
        "BLEU",
        "chrF",
        "permuted",
        "above permuted",
        "copied",
        "off target",
        "WER",
        "CER",
    ]
    return table(head, lines)


def words(unseen: list[UnderTokens], controls: list[UnderTokens]) -> str:
    """What the voice costs, and whether translation goes on where transcription fails."""
    bleu = sorted(r.candidates[0].bleu.value for r in controls)
    wrong = sorted(r.error["words"].value for r in controls if r.error)
    rates = sorted(r.error["words"].value for r in unseen if r.error and above_chance(r))
    said = (
        f"**What this voice and text cost where the language is known**: the controls reach a BLEU of {bleu[0]:.1f} to "
        f"{bleu[-1]:.1f}, and a WER of {wrong[0]:.0f} to {wrong[-1]:.0f}%. "
    )
    if rates:
        said += (
            f"The unseen languages whose translations are above chance have a WER of {rates[0]:.0f} to {rates[-1]:.0f}% under "
            "the same token: what comes through is more than chance, and how much of use it is the examples show."
        )
    return said


def examples(results: Results) -> str:
    """The middling translation of each language."""
    lines = []
    for row in results.unseen:
        said = {s.id: s for s in results.samples if s.source == row.language}
        outputs, references = ({i: getattr(s, k) or "" for i, s in said.items()} for k in ("hypothesis", "reference"))
        scores = segment_scores(outputs, references, metric="chrf")
        ranked = [said[i] for _, i in sorted((score, i) for i, score in scores.items())]
        middle = ranked[len(ranked) // 2]
        lines.append([middle.id, *(short(t or "") for t in (middle.transcript, middle.reference, middle.hypothesis))])
    return table(["paragraph", "what is read", "English", "translation"], lines)


def short(text: str) -> str:
    """The beginning of a text, for a table's cell."""
    text = text.replace("|", "/")
    return text if len(text) <= 200 else text[:200].rsplit(" ", 1)[0] + " …"


def token_table(rows: list[UnderTokens]) -> str:
    """chrF under every candidate."""
    lines = []
    for row in rows:
        scores = [
            f"{'**' if c.token == row.chosen else ''}`{c.token}` {c.chrf.value:.1f}"
            f"{'**' if c.token == row.chosen else ''}{' ★' if c.token == row.oracle else ''}"
            for c in row.candidates
        ]
        rules = [f"`{found.token}`" for found in row.rules.values()]
        lines.append([f"{row.name}{', own token forbidden' if row.seen else ''}", ", ".join(scores), *rules])
    return table(["language", "chrF under each token", *(f"`{rule}`" for rule in rows[0].rules)], lines)


def rules_section(declaration: Results, prompts: Results) -> str:
    """How the rules compare, on both corpora."""
    parts = []
    for title, results in (("SYNTHETIC, the Declaration", declaration), ("Real human speech, prompts", prompts)):
        lines = [
            [
                f"`{r.rule}`{' (default)' if r.default else ''}",
                f"{r.right} of {len(r.languages)}",
                f"{r.chrf:.1f}",
                f"{r.loss:.1f}",
                "" if r.rule == "first" else score(r.against_first, "+"),
            ]
            for r in results.unseen_rules
        ]
        languages = ", ".join(results.unseen_rules[0].languages)
        head = [f"{title} ({languages})", "oracle's token", "chrF", "below the oracle", "against `first`"]
        parts.append(table(head, lines))
    return f"""## How the rules do

`first` takes the closest relative; `likelihood` the token whose translations the model finds likeliest; `detection` the candidate
that Whisper's language detection hears most; `agreement` the one whose translations agree most (chrF) with those under the other
candidates. Mean over languages; the last column is paired. {verdict(declaration, prompts)}

{parts[0]}

Languages that have a token, on real speech, with their own token forbidden ({
        prompts.unseen[0].n
    } prompts each; under their own: {
        "; ".join(f"{r.language} {r.candidates[0].chrf.value:.1f}" for r in prompts.unseen if r.own_token)
    }):

{parts[1]}

{token_table([r for r in prompts.unseen if not r.own_token])}"""


def verdict(*studies: Results) -> str:
    """Whether the default rule beats the closest relative, and which rule has the highest mean."""
    verdicts = []
    for name, results in zip(("the Declaration", "the prompts"), studies, strict=True):
        default = next(r for r in results.unseen_rules if r.default)
        best = max(results.unseen_rules, key=lambda r: r.chrf)
        low, high = default.against_first.ci or (0.0, 0.0)
        better = "better than" if low > 0 else "worse than" if high < 0 else "not significantly different from"
        verdicts.append(f"on {name} `{DEFAULT_RULE}` is {better} `first`, and `{best.rule}` has the highest mean")
    return f"**{'; '.join(verdicts).replace('on', 'On', 1)}.**"


def above_permuted(row: UnderTokens, metric: str) -> Difference:
    """How far a score is above that of permuted references."""
    found = row.permuted[metric].difference
    assert found is not None
    return found


def above_chance(row: UnderTokens) -> bool:
    """Whether chrF is above that of permuted references, its interval over 0."""
    ci = above_permuted(row, "chrf").ci
    return ci is not None and ci[0] > 0


def significant(found: Difference) -> bool:
    """Whether a score is above that of permuted references."""
    return found.value > 0 and found.p_randomisation is not None and found.p_randomisation < 0.05


def codes(languages: list[str]) -> str:
    """Codes, or none."""
    return ", ".join(languages) or "none"


def score(found: Score, sign: str = "") -> str:
    """A score or a difference with its interval."""
    low, high = found.ci or (found.value, found.value)
    return f"{found.value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    main()
