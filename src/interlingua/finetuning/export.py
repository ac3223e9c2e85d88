"""Export: a trained model as folders that transformers, CTranslate2 and faster-whisper load as they are.

    run folder or LoRA adapter -> load_trained -> save_whisper -> convert -> check -> OUT, all of it or nothing

The check decodes the same recordings before and after, greedily: one engine's text against the other's.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from interlingua import __version__
from interlingua.audio import load_audio
from interlingua.encoding import WhisperEncoder
from interlingua.errors import UsageError
from interlingua.files import atomic_folder, write_text
from interlingua.metrics import score_translations
from interlingua.models import Quantization, Whisper, convert, load_whisper, open_ctranslate2, save_whisper
from interlingua.models.layout import Kind
from interlingua.models.targets import Targets
from interlingua.models.trained import load_trained
from interlingua.translation import greedy_tokens
from interlingua.translation.detect import detect_language
from interlingua.types import SAMPLE_RATE, FrameArray, Frames, Samples, Score

FloatDtype = Literal["float32", "float16"]
RECORD = "export.json"
"""The file that tells an export from any other folder."""

LEAST_CHRF = 90.0
"""chrF that the texts after must reach against those before."""


@dataclass(frozen=True)
class FormatCheck:
    """How alike a format's texts are to the model's own.

    Attributes:
        texts: how many were compared.
        identical: how many of them are the same.
        chrf: of the texts after against those before; 0 where none has a letter.
    """

    texts: int
    identical: int
    chrf: Score

    def passes(self, least_chrf: float) -> bool:
        """Whether the texts are all the same, or alike enough."""
        return self.identical == self.texts or self.chrf.value >= least_chrf

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"texts": self.texts, "identical": self.identical, "chrf": self.chrf.as_dict()}


@dataclass(frozen=True)
class ExportReport:
    """What `export` did.

    Attributes:
        out: the folder.
        model: name of what was exported.
        revision: of its weights; for an adapter, of its base model's.
        sizes: format -> bytes.
        quantization: of the CTranslate2 format.
        dtype: of the Hugging Face format.
        checks: format -> its check; empty where none was asked for.
        least_chrf: what a check must reach.
        targets: what the model was trained for, or None.
    """

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
        """Formats that decode to something else; if there is one, nothing was written to ``out``."""
        return [kind for kind, check in self.checks.items() if not check.passes(self.least_chrf)]

    def as_dict(self) -> dict[str, Any]:
        """What ``export.json`` holds."""
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
    """Write ``OUT/huggingface`` and ``OUT/ctranslate2``.

    The folder appears whole or not at all; where a check fails nothing is written, and an earlier export stays.

    Args:
        model: a model folder, a folder with a LoRA adapter (it is merged into its base), or a model spec.
        out: new, empty, or an earlier export, which is replaced.
        formats: which of the two to write.
        quantization: of the CTranslate2 format.
        dtype: of the Hugging Face format.
        check: recordings of at most 30 s, or encoder states (full context), to decode before and after.
        least_chrf: what the texts after must reach against those before, 0 to 100.

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
    before = _texts(whisper, probes, _greedy(whisper, known=True))
    kinds = list(dict.fromkeys(formats))
    try:
        with atomic_folder(out) as temporary:
            _write(whisper, targets, temporary, kinds, quantization, dtype)
            checks = {}
            for kind in kinds if probes else ():
                decode = _decoder(kind, temporary / kind, whisper, quantization)
                checks[kind] = _compare(before, _texts(whisper, probes, decode))
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
    """Raise UsageError unless ``out`` may be written, or replaced."""
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
    """The folders of both formats; the conversion starts from full precision whatever ``dtype`` is."""
    folder = save_whisper(whisper, out / "huggingface", targets)
    if "ctranslate2" in kinds:
        convert(folder, out / "ctranslate2", quantization)
        if targets:
            targets.write(out / "ctranslate2")
    if "huggingface" not in kinds:
        shutil.rmtree(folder)
    elif dtype == "float16":
        whisper.model.half()
        save_whisper(whisper, folder, targets)
        whisper.model.float()  # rounded; nothing decodes with it any more


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- the check


@dataclass(frozen=True, eq=False)
class _Probe:
    """What is decoded: states (T, D) of the model before, and the audio that they are of, unless states were given."""

    id: str
    prompt: list[int]
    states: FrameArray
    samples: Samples | None


_Decode = Callable[[_Probe], list[int]]


def _probes(whisper: Whisper, targets: Targets | None, check: Sequence[str | Path | Frames]) -> list[_Probe]:
    """Every recording, into every target; a model without targets transcribes the language that it hears."""
    encoder = WhisperEncoder(whisper, context="full")
    probes = []
    for number, given in enumerate(check):
        if isinstance(given, Frames):
            samples, states = None, given.values
        else:
            samples = load_audio(given)
            states = encoder.encode([samples])[0][0]
        spoken, _ = detect_language(whisper, states)
        if targets is None:
            probes.append(_Probe(str(number), whisper.prompt(spoken, "transcribe"), states, samples))
            continue
        for target in targets.targets:
            prompt = targets.prompt(whisper, target, source=spoken)
            probes.append(_Probe(f"{number} into {target}", prompt, states, samples))
    return probes


def _texts(whisper: Whisper, probes: Sequence[_Probe], decode: _Decode) -> dict[str, str]:
    """Probe id -> text."""
    return {p.id: whisper.tokenizer.decode(decode(p), skip_special_tokens=True).strip() for p in probes}


def _greedy(whisper: Whisper, *, known: bool = False) -> _Decode:
    """Our own decoder; ``known`` states are taken as they are, others encoded by this model."""
    encoder = WhisperEncoder(whisper, context="full")
    most = whisper.model.config.max_target_positions // 2  # where CTranslate2 stops

    def decode(probe: _Probe) -> list[int]:
        states = probe.states
        if not known and probe.samples is not None:
            states = encoder.encode([probe.samples])[0][0]
        return greedy_tokens(whisper, [states], probe.prompt, most_tokens=most)[0]

    return decode


def _ctranslate2(folder: Path, whisper: Whisper, quantization: Quantization) -> _Decode:
    """CTranslate2's decoder, on the CPU, which multiplies in int8 or float32."""
    import ctranslate2

    compute = "int8" if quantization.startswith("int8") else "float32"
    threads = torch.get_num_threads()
    engine = open_ctranslate2(folder, compute=compute, threads=threads)
    positions = whisper.model.config.max_target_positions

    def decode(probe: _Probe) -> list[int]:
        if probe.samples is None:
            inputs = probe.states[None].astype(np.float32)
        else:
            extract = whisper.feature_extractor
            inputs = extract(probe.samples, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(inputs))
        (found,) = engine.generate(view, [probe.prompt], beam_size=1, max_length=positions)
        tokens: list[int] = found.sequences_ids[0]
        return tokens

    return decode


def _decoder(kind: Kind, folder: Path, whisper: Whisper, quantization: Quantization) -> _Decode:
    """The decoder of a written folder."""
    return _ctranslate2(folder, whisper, quantization) if kind == "ctranslate2" else _greedy(load_whisper(folder))


def _compare(before: Mapping[str, str], after: Mapping[str, str]) -> FormatCheck:
    identical = sum(after[name] == text for name, text in before.items())
    chrf = score_translations(after, before, target="en", metric="chrf")
    return FormatCheck(len(before), identical, chrf)
