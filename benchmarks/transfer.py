"""The transfer study and its page, docs/transfer.md: what one source language teaches the others, and what is forgotten.

Runs the recipes that are named, or all of `RECIPES` (hours on two cores; interrupted, it goes on where it was), and writes the page. With ``--as-is``
nothing is trained: the page shows what is done.
"""

import json
import sys
from pathlib import Path

import numpy as np

from interlingua.corpora import prepare_prompts, split_by_cluster, write_manifest
from interlingua.experiments.finetune import run_finetune
from interlingua.experiments.recipes import read_recipe
from interlingua.experiments.transfer import (
    CONTEXT,
    PERMUTED,
    PLAIN,
    TransferStudy,
    run_transfer_study,
)
from interlingua.files import write_text
from interlingua.finetuning.config import FinetuneConfig
from interlingua.metrics.correlation import rank_correlation
from interlingua.results import (
    Part,
    Results,
    StudyRow,
    Variant,
    as_json,
    load_results,
)
from interlingua.types import Difference, Score
from stores import encoded

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "transfer.md"
DATA = ROOT / "docs" / "data"
RECIPES = (
    "transfer-prompts",
    "transfer-prompts-full",
    "transfer-kept",
    "transfer-prompt-kinds",
    "transfer-sources",
    "transfer-amount",
    "finetune-short-context",
)
"""In the order of the page's sections."""


def main() -> None:
    """Run what isn't done yet, and write the page."""
    names = [a for a in sys.argv[1:] if not a.startswith("-")]
    train = "--as-is" not in sys.argv
    sections = []
    for path in [Path(n) for n in names] or [ROOT / "recipes" / f"{name}.yaml" for name in RECIPES]:
        settings = read_recipe(path)
        if not train and not (settings.out / "results.json").exists():
            print(f"{path.name}: not done; skipped")
            continue
        if isinstance(settings, TransferStudy):
            results, _ = load_results(run_transfer_study(settings, train=train))
            keep(path, results)
            sections.append(study_section(path, settings, results))
        elif isinstance(settings, FinetuneConfig):
            if train:
                if not Path(settings.data).exists():
                    write_manifest(settings.data, split_by_cluster(prepare_prompts(), 0))
                for store, context in zip(settings.store, (CONTEXT, "speech"), strict=True):
                    encoded(prepare_prompts(), Path(store).stem, context=context)
                run_finetune(settings)
            results, _ = load_results(settings.out)
            keep(path, results)
            sections.append(finetune_section(path, settings, results))
        else:
            raise SystemExit(f"{path}: neither a transfer study nor a fine-tuning")
    write_text(PAGE, HEAD + "".join(sections))
    print(f"{PAGE} written")


def keep(recipe: Path, results: Results) -> None:
    """Put a study's results where its page is."""
    write_text(
        DATA / f"{recipe.stem}.json", json.dumps(as_json(results), ensure_ascii=False, separators=(",", ":")) + "\n"
    )


HEAD = f"""# What one source language teaches the others

Written by `make study-transfer` (`benchmarks/transfer.py`), not by hand; the studies' `results.json` lie in [data](data).

Whisper-base, its encoder frozen, learns to translate speech of the prompts corpus from one source language into a new target; the other languages are
**never trained on**. States have context `{CONTEXT}`. Split into train, dev and test (3:1:1) by cluster of near-duplicates; a fold chooses which fifth
is test. The best epoch is chosen by chrF on dev. Where a variant lists several interpolation weights (WiSE-FT), dev chooses the one with the best new
target among those that lose nothing into English there (or, if all lose, the one that loses least). Decoding is greedy, on a CPU in CTranslate2's int8, as it is deployed there, before
and after alike. All figures are on test; intervals are 95% bootstrap intervals, clusters resampled over all languages, folds and seeds together and paired where
a difference is given; where there are several seeds, each fold's are resampled, too.
p is by approximate randomisation over clusters, the trainings taken as they are.

**Controls**: `{PERMUTED}` trains on the same texts dealt out anew over the audio (what is learnt is the domain's text alone), and every gain is over the
best of three untrained prompts, chosen on dev.

"""


def study_section(path: Path, study: TransferStudy, results: Results) -> str:
    """What a study found."""
    made = results.provenance
    settings = ", ".join(f"{k} {v}" for k, v in study.settings.items())
    title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").strip()
    parts = [
        target_section(t, study, [r for r in results.study if r.target == t], results.pareto) for t in study.targets
    ]
    return f"""## {title}

`interlingua run recipes/{path.name}`, {(made.started or "")[:10]}, {made.device["name"]}, {made.device["threads"]} threads, training in
{made.device["compute"]}, torch {made.packages["torch"]}. Source of the variants that don't say: {study.source}; {settings}; folds
{", ".join(map(str, study.folds))}; seeds {", ".join(map(str, study.seeds))}.

{"".join(parts)}"""


def target_section(target: str, study: TransferStudy, rows: list[StudyRow], pareto: list[Variant]) -> str:
    """One target of a study."""
    if not rows:
        return f"Into `{target}`: not done yet.\n\n"
    controlled = any(r.variant == PERMUTED for r in rows)
    head = [
        "variant",
        "alpha",
        "sources never trained on: gain",
        *([f"against `{PERMUTED}`"] if controlled else []),
        "trained source: gain",
        "X→English: change",
        "WER/CER of transcripts, mean",
        "languages named wrongly",
        f"part of `{PLAIN}`'s gain, never trained on",
        "all sources",
    ]
    lines = [
        [
            f"`{r.variant}`{chosen(r)}",
            ", ".join(dict.fromkeys(f"{c['alpha']:g}" for c in r.chosen)),
            change(r.new_unseen),
            *(["" if r.variant == PERMUTED else change(r.unseen_against_permuted)] if controlled else []),
            change(r.new_source),
            change(r.into_english),
            arrow(r.errors.get("transcribe")),
            arrow(r.errors.get("detect")),
            "" if r.variant in (PLAIN, PERMUTED) else part(r.relative_gain),
            "" if r.variant in (PLAIN, PERMUTED) else part(r.relative_gain_all),
        ]
        for r in rows
    ]
    languages = list(rows[0].by_language)
    each = [
        [f"`{r.variant}` ({', '.join(r.sources)})", *(by_language(r.by_language[s]) for s in languages)]
        for r in rows
        if r.variant != PERMUTED
    ]
    matrix = relation(rows) if len({tuple(r.sources) for r in rows}) > 2 else ""
    untrained = rows[0].chrf_unseen["untrained"]
    undone = [v for v in study.variants if v not in {r.variant for r in rows}]
    left = f"\nNot done yet: {', '.join(f'`{v}`' for v in undone)}.\n" if undone else ""
    return f"""### Into `{target}`

Best untrained prompt: {", ".join(f"`{p}`" for p in dict.fromkeys(rows[0].untrained_prompts))}, chrF {untrained:.1f} over the sources never trained on; `{PLAIN}` reaches {rows[0].chrf_unseen["plain"]:.1f}.
{left}
{table(head, lines)}

By source language: gain over the best untrained prompt{f"; over `{PERMUTED}`" if controlled else ""}. Trained on: in brackets.

{table(["variant", *(f"{s}→{target}" for s in languages)], each)}
{matrix}
{curves(target, pareto)}
{"".join(transfer_table(r) for r in rows)}
"""


def transfer_table(row: StudyRow) -> str:
    """Scores by direction, before and after."""
    lines = [
        [
            f"{r.source}→{r.target}{' (trained on)' if r.trained else ''}",
            str(r.n),
            *(score(getattr(r.chrf, side)) for side in ("before", "after")),
            change(r.chrf.difference),
            f"{r.chrf.difference.p_randomisation:.3f}" if r.chrf.difference else "",
            *(score(getattr(r.bleu, side)) for side in ("before", "after")),
            *(f"{100 * getattr(r.off_target, side).value:.0f}%" for side in ("before", "after")),
        ]
        for r in row.table
    ]
    head = [
        "direction",
        "n",
        "chrF before",
        "after",
        "difference",
        "p",
        "BLEU before",
        "after",
        "off target before",
        "after",
    ]
    signature = next(r.bleu.after.signature for r in row.table if r.bleu.after)
    title = f"Transfer table of <code>{row.variant}</code> (first seed; BLEU: {signature})"
    return f"<details><summary>{title}</summary>\n\n{table(head, lines)}\n\n</details>\n"


def curves(target: str, pareto: list[Variant]) -> str:
    """Gain and loss by interpolation weight, on test."""
    lines = [
        f"`{p.name}`: " + "; ".join(f"{gain:+.1f}, {loss:+.1f}" for gain, loss in p.curve)
        for p in pareto
        if p.target == target and p.curve
    ]
    if not lines:
        return ""
    return (
        "Gain on the sources never trained on, and change of X→English, by interpolation weight, from 0 to the largest: "
        + ". ".join(lines)
        + ".\n"
    )


def finetune_section(path: Path, config: FinetuneConfig, results: Results) -> str:
    """One fine-tuning: pooled differences."""
    title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").strip()
    lines = [[r.pool, ", ".join(r.languages), change(r.chrf)] for r in results.transfer_pooled]
    return f"""## {title}

`interlingua run recipes/{path.name}`, {(results.provenance.started or "")[:10]}: {config.plan()}; stores {", ".join(f"`{Path(s).name}`" for s in config.store)}.
chrF after less before, where before is always read from the first store.

{table(["", "languages spoken", "difference"], lines)}

"""


def chosen(row: StudyRow) -> str:
    """What dev chose, where it had a choice."""
    if row.candidates == 1:
        return ""
    differing = [{k: v for k, v in c.items() if k not in ("fold", "source", "alpha")} for c in row.chosen]
    settings = dict.fromkeys(", ".join(f"{k} {v}" for k, v in own.items() if k != "epochs") for own in differing)
    return f" (of {row.candidates} on dev: {'; '.join(settings)})"


def relation(rows: list[StudyRow]) -> str:
    """Does R@1 between two languages predict what training on one gives the other?"""
    names = {"seqsim": "SeqSim", "whitened-position-csls": "the default method"}
    gains = {
        (r.sources[0], t): gain.value
        for r in rows
        for t, found in r.by_language.items()
        if len(r.sources) == 1 and r.sources[0] != t and r.variant != PERMUTED and (gain := found["untrained"])
    }
    pairs = sorted(gains)
    gained = np.array([gains[p] for p in pairs])
    tested = np.array([t for _, t in pairs])
    lines = []
    for method, name in names.items():
        path = ROOT / "runs" / "study" / f"method-{method}.json"
        if not path.exists():
            return "R@1 of the pairs: not measured yet (`make study`).\n"
        hits = json.loads(path.read_text(encoding="utf-8"))["hits"]
        r1 = np.array([np.mean([*hits[f"{s}-{t}"], *hits[f"{t}-{s}"]]) for s, t in pairs])
        views = {
            "all pairs": (r1, gained),
            "less the mean of each test language": (less_mean(r1, tested), less_mean(gained, tested)),
        }
        for what, (a, b) in views.items():
            found = rank_correlation(np.round(a, 9).tolist(), np.round(b, 9).tolist())
            lines.append([name, what, f"{found.value:+.2f}", f"{found.p:.3f}"])
    return f"""
Does alignment predict transfer? Spearman's rank correlation of R@1 between the two languages (mean of both directions, [seqsim.md](seqsim.md)) with the
gain, {len(pairs)} pairs of a source language and another one tested; p by permutation of the pairs ({found.signature}).

{table(["R@1 by", "", "correlation", "p"], lines)}
"""


def less_mean(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Values less the mean of their group."""
    return np.asarray(values - np.array([values[groups == g].mean() for g in groups]))


def by_language(found: dict[str, Difference | None]) -> str:
    """Gain of a language over both controls."""
    return "; ".join(change(found[k]) for k in ("untrained", PERMUTED) if found.get(k))


def arrow(values: tuple[float, float] | None) -> str:
    """Per cent before and after."""
    if values is None:
        return ""
    return f"{values[0]:.1f} → {values[1]:.1f}"


def score(found: Score) -> str:
    """A score with its interval."""
    low, high = found.ci or (np.nan, np.nan)
    return f"{found.value:.1f} [{low:.1f}, {high:.1f}]"


def change(score: Difference | None) -> str:
    """A difference with its interval."""
    if score is None:
        return ""
    low, high = score.ci or (np.nan, np.nan)
    return f"{score.value:+.1f} [{low:+.1f}, {high:+.1f}]"


def part(found: Part) -> str:
    """A proportion in per cent with its interval."""
    if found.value is None or found.ci is None:
        return "no gain to compare with"
    return f"{100 * found.value:.0f}% [{100 * found.ci[0]:.0f}, {100 * found.ci[1]:.0f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    main()
