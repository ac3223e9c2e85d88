"""Export: a fine-tuned model as folders that transformers, CTranslate2 and faster-whisper load as they are.

    run folder or LoRA adapter -> load_trained -> save_whisper -> convert -> check -> OUT, all of it or nothing

The check decodes the same recordings before and after, greedily, and compares the texts: after by what will run the
folder, transformers' own `generate` and CTranslate2, which detect the language themselves.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch

from interlingua import __version__
from interlingua.audio import load_audio
from interlingua.errors import UsageError
from interlingua.files import atomic_folder, write_text
from interlingua.metrics import score_translations
from interlingua.models import Quantization, Whisper, convert, load_whisper, quiet, save_whisper
from interlingua.models.hub import Kind, load_pretrained
from interlingua.models.targets import Targets, load_trained
from interlingua.translation import CTranslate2Engine, Decoding, Engine, TransformersEngine, likeliest
from interlingua.types import SAMPLE_RATE, WINDOW_SECONDS, Frames, Score

FloatDtype = Literal["float32", "float16"]
RECORD = "export.json"
"""The file that tells an export from any other folder."""

LEAST_CHRF = 90.0
"""chrF that the texts after must reach against those before."""


@dataclass(frozen=True)
class FormatCheck:
    """Agreement of a format's texts with the model's own; ``chrf``: after against before, 0 where none has a letter."""

    texts: int
    identical: int
    chrf: Score

    def passes(self, least_chrf: float) -> bool:
        """Whether all texts are identical, or chrF is high enough."""
        return self.identical == self.texts or self.chrf.value >= least_chrf

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"texts": self.texts, "identical": self.identical, "chrf": msgspec.to_builtins(self.chrf)}


@dataclass(frozen=True)
class ExportReport:
    """What `export` did; ``sizes`` (bytes) and ``checks`` by format; an adapter's ``revision`` is its base model's."""

    out: Path
    model: str
    revision: str
    sizes: dict[Kind, int]
    quantization: Quantization
    dtype: FloatDtype
    checks: dict[Kind, FormatCheck]
    least_chrf: float
    targets: Targets | None

    @property
    def failed(self) -> list[Kind]:
        """Formats that failed the check; if there is one, nothing was written to ``out``."""
        return [kind for kind, check in self.checks.items() if not check.passes(self.least_chrf)]

    def as_dict(self) -> dict[str, Any]:
        """The content of ``export.json``."""
        return {
            "format": 1,
            "interlingua": __version__,
            "model": self.model,
            "revision": self.revision,
            "formats": self.sizes,
            "quantization": self.quantization,
            "dtype": self.dtype,
            "targets": list(self.targets.targets) if self.targets else [],
            "checks": {kind: check.as_dict() for kind, check in self.checks.items()},
            "least_chrf": self.least_chrf,
        }


class _DiffersError(Exception):
    """A format failed its check: leave nothing of it."""


def export(
    model: str | Path,
    out: str | Path,
    *,
    formats: Sequence[Kind] = ("huggingface", "ctranslate2"),
    quantization: Quantization = "int8",
    dtype: FloatDtype = "float32",
    check: Sequence[str | Path | Frames] = (),
    least_chrf: float = LEAST_CHRF,
) -> ExportReport:
    """Write ``OUT/huggingface`` and ``OUT/ctranslate2``, whole or not at all.

    Where a check fails nothing is written, and an earlier export stays.

    Args:
        model: a model folder, a folder with a LoRA adapter (it is merged into its base), or a model spec.
        out: new, empty, or an earlier export, which is replaced.
        quantization: of the CTranslate2 format.
        dtype: of the Hugging Face format.
        check: recordings of at most 30 s, or encoder states (full context), to decode before and after.
        least_chrf: of the texts after against those before, 0 to 100.

    Raises:
        UsageError: no format, a folder that holds something else, or a target that the model has no token for.
        ModelError: the model can't be loaded, merged or converted.
        AudioError: a recording can't be used.
    """
    if not formats:
        raise UsageError("no format to write; name huggingface, ctranslate2 or both")
    out = Path(out)
    _require_free(out, Path(model).expanduser())
    whisper, targets = load_trained(model)
    _require_free(out, whisper.source.path)
    probes = _probes(whisper, targets, check)
    kinds = list(dict.fromkeys(formats))
    try:
        with atomic_folder(out) as temporary:
            _write(whisper, targets, temporary, kinds, quantization, dtype)
            checks = {}
            for kind in kinds if probes else ():
                written = (
                    _Generate(temporary / kind) if kind == "huggingface" else _Native(temporary / kind, quantization)
                )
                after = {p.id: written.text(p, targets) for p in probes}
                checks[kind] = _compare({p.id: p.text for p in probes}, after)
            sizes = {kind: _size(temporary / kind) for kind in kinds}
            name, revision = whisper.model_name, whisper.revision
            report = ExportReport(out, name, revision, sizes, quantization, dtype, checks, least_chrf, targets)
            write_text(temporary / RECORD, json.dumps(report.as_dict(), ensure_ascii=False, indent=1))
            if report.failed:
                raise _DiffersError
    except _DiffersError:
        pass
    return report


def _require_free(out: Path, model: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file():
        raise UsageError(f"{out}: the folder holds something else than an earlier export; name a new one")
    if model.exists() and model.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"{out}: the folder holds the model itself, {model}; name another one")


def _write(
    whisper: Whisper,
    targets: Targets | None,
    out: Path,
    kinds: Sequence[Kind],
    quantization: Quantization,
    dtype: FloatDtype,
) -> None:
    """Write both formats; the conversion starts from full precision whatever ``dtype`` is."""
    folder = save_whisper(whisper, out / "huggingface", targets)
    if "ctranslate2" in kinds:
        convert(whisper, out / "ctranslate2", quantization)
        if targets:
            targets.write(out / "ctranslate2")
    if "huggingface" not in kinds:
        shutil.rmtree(folder)
    elif dtype == "float16":
        whisper.model.half()
        save_whisper(whisper, folder, targets)
        whisper.model.float()  # back to float32, but rounded; nothing decodes with it afterwards


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- the check


@dataclass(frozen=True, eq=False)
class _Probe:
    """Log-mel features (1, mels, F) or encoder states (T, D), and the model's text for them."""

    id: str
    target: str | None
    spoken: str
    given: np.ndarray
    text: str

    def prompt(self, whisper: Whisper, targets: Targets | None, spoken: str) -> list[int]:
        """The decoder's first tokens, for speech of a language."""
        if targets is None or self.target is None:
            return whisper.prompt(spoken, "transcribe")
        return targets.prompt(whisper, self.target, source=spoken)


def _probes(whisper: Whisper, targets: Targets | None, check: Sequence[str | Path | Frames]) -> list[_Probe]:
    """Every recording, into every target; a model without targets transcribes the detected language."""
    engine = TransformersEngine(whisper)
    probes = []
    for number, given in enumerate(check):
        if isinstance(given, Frames):
            array = given.values
        else:
            samples = load_audio(given, max_seconds=WINDOW_SECONDS)
            array = whisper.feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features
        states = _states(engine, array)
        spoken = likeliest(engine.detect(states)[0])
        for target in targets.targets if targets else (None,):
            name = f"{number} into {target}" if target else str(number)
            probe = _Probe(name, target, spoken, array, "")
            prompt = probe.prompt(whisper, targets, spoken)
            probes.append(replace(probe, text=_text(engine, states, prompt)))
    return probes


def _states(engine: Engine, given: np.ndarray) -> Any:
    return engine.encode(given) if given.ndim == 3 else engine.load([given])


def _text(engine: Engine, states: Any, prompt: Sequence[int]) -> str:
    (found,) = engine.generate(states, [prompt], Decoding())
    return str(engine.whisper.tokenizer.decode(found.tokens, skip_special_tokens=True)).strip()


class _Native:
    """CTranslate2 on a written folder, on the CPU, where it multiplies in int8 or float32."""

    def __init__(self, folder: Path, quantization: Quantization) -> None:
        compute = "int8" if quantization.startswith("int8") else "float32"
        self._engine = CTranslate2Engine(folder, compute=compute, device="cpu", workers=1)

    def text(self, probe: _Probe, targets: Targets | None) -> str:
        states = _states(self._engine, probe.given)
        try:
            spoken = likeliest(self._engine.detect(states)[0])
        except UsageError:  # no vocabulary of Whisper's own size: faster-whisper detects nothing, either
            spoken = probe.spoken
        return _text(self._engine, states, probe.prompt(self._engine.whisper, targets, spoken))


class _Generate:
    """transformers on a written folder as anybody calls it, on the CPU in float32."""

    def __init__(self, folder: Path) -> None:
        from transformers import WhisperForConditionalGeneration

        with quiet():
            self._model = load_pretrained(WhisperForConditionalGeneration, folder, torch.float32)
        self._whisper = load_whisper(folder, weights=False)

    def text(self, probe: _Probe, targets: Targets | None) -> str:
        from transformers.modeling_outputs import BaseModelOutput

        given = torch.from_numpy(probe.given.astype(np.float32))
        inputs = {"input_features": given} if given.ndim == 3 else {"encoder_outputs": BaseModelOutput(given[None])}
        whisper, model = self._whisper, self._model
        with torch.inference_mode(), quiet():
            language = whisper.tokenizer.convert_ids_to_tokens(int(model.detect_language(**inputs)[0]))
            prompt = probe.prompt(whisper, targets, language.strip("<|>"))
            _, language, task, _ = whisper.tokenizer.convert_ids_to_tokens(prompt)
            found = model.generate(
                **inputs,
                language=language,
                task=task.strip("<|>"),
                max_new_tokens=Decoding().budget(whisper, prompt),
            )
        return str(whisper.tokenizer.decode(found[0], skip_special_tokens=True)).strip()


def _compare(before: Mapping[str, str], after: Mapping[str, str]) -> FormatCheck:
    identical = sum(after[name] == text for name, text in before.items())
    chrf = score_translations(after, before, target="en", metric="chrf")
    return FormatCheck(len(before), identical, chrf)
