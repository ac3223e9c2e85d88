"""``interlingua export``: a trained model as folders that other programs load."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cyclopts

from interlingua.cli.output import emit, note, say

if TYPE_CHECKING:
    from interlingua.finetuning.export import ExportReport

_HELP = """Write a trained model for transformers and faster-whisper, checked.

A model that translates into Spanish then runs with faster-whisper by

WhisperModel("OUT/ctranslate2").transcribe("a.wav", language="es", task="transcribe", without_timestamps=True)
"""

app = cyclopts.App(name="export", help=_HELP)


@app.default
def export(
    model: str,
    out: Path,
    *,
    format: tuple[Literal["huggingface", "ctranslate2"], ...] = ("huggingface", "ctranslate2"),
    quantization: Literal["float32", "float16", "int8", "int8_float32", "int8_float16"] = "int8",
    dtype: Literal["float32", "float16"] = "float32",
    check: tuple[Path, ...] = (),
    least_chrf: float = 90.0,
    json: bool = False,
) -> int:
    """Write OUT/huggingface and OUT/ctranslate2; if a check fails, nothing is written and the exit code is 1.

    Args:
        model: model folder, folder with a LoRA adapter (merged into its base), or model spec.
        out: folder to write; an earlier export is replaced.
        format: which formats to write.
        quantization: number format of the CTranslate2 weights: int8 is a quarter of float32's size.
        dtype: number format of the Hugging Face weights.
        check: recordings of at most 30 s that are decoded before and after, greedily.
        least_chrf: least chrF (0 to 100) of the texts after against those before.
        json: print the result as JSON.
    """
    from interlingua.finetuning.export import export as write

    report = write(
        model, out, formats=format, quantization=quantization, dtype=dtype, check=check, least_chrf=least_chrf
    )
    if json:
        emit({"out": str(out), "written": not report.failed, **report.as_dict()})
    else:
        _print(report)
    for kind in report.failed:
        found = report.checks[kind].chrf.value
        note(
            f"interlingua: {kind} decodes to something else: chrF {found:.1f}, {least_chrf:g} is needed; {out} is left "
            "as it was; use --quantization float32, or a lower --least-chrf"
        )
    return 1 if report.failed else 0


def _print(report: "ExportReport") -> None:
    for kind, check in report.checks.items():
        low, high = check.chrf.ci or (check.chrf.value, check.chrf.value)
        say(
            f"check: {kind}: {check.identical} of {check.texts} texts are the same, "
            f"chrF {check.chrf.value:.1f} [{low:.1f}, {high:.1f}]"
        )
    if report.failed:
        return
    for kind, size in report.sizes.items():
        numbers = report.quantization if kind == "ctranslate2" else report.dtype
        say(f"{report.out / kind}: {size / 1e6:.1f} MB, {numbers}")
    if report.targets and "ctranslate2" in report.sizes:
        for language, target in report.targets.targets.items():
            token, task = target.token or "SPOKEN", report.targets.task(language)
            say(
                f'{language}: WhisperModel("{report.out / "ctranslate2"}").transcribe(AUDIO, language="{token}", '
                f'task="{task}", without_timestamps=True)'
            )
        for language, token in report.targets.proxies.items():
            say(f'{language}: has no token; where a prompt names the speech, write language="{token}"')
