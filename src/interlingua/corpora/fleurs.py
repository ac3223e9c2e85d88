"""FLEURS (``google/fleurs``): 102 languages, one set of sentences, up to three recordings of each by different people.

Reads the original layout (``data/<lang>/<split>.tsv`` with ``audio/<split>.tar.gz``, or unpacked next to it) and
Hugging Face's parquet files (``<lang>/<split>/0000.parquet``). A row's ``id`` is the SENTENCE: it becomes the meaning,
which all its recordings share. FLEURS names no speakers. Not every sentence exists in every language.
"""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interlingua.audio.archives import row_member
from interlingua.corpora.base import Corpus, Log, Names, Skipped, silent
from interlingua.corpora.delimited import read_table
from interlingua.corpora.layout import Clips, folder_name, language_folders, stem
from interlingua.errors import CorpusError, UsageError
from interlingua.fetch import download_files
from interlingua.languages import normalise_language
from interlingua.types import SAMPLE_RATE, AudioRef, Utterance

REPOSITORY = "google/fleurs"
BY_HAND = (
    "fetch data/<lang>/{train,dev,test}.tsv and data/<lang>/audio/{train,dev,test}.tar.gz of the languages you need "
    f"(<lang> as in fr_fr) from https://huggingface.co/datasets/{REPOSITORY}/tree/main/data into ROOT/data/<lang>; "
    "unpacked (ROOT/data/<lang>/audio/<split>/*.wav) it is read faster"
)
FETCH = f"{BY_HAND}; --download does it where the hub can be reached"
SPLITS = ("train", "dev", "test")
COLUMNS = ("id", "file_name", "raw_transcription", "transcription", "characters", "num_samples", "gender")
LANGUAGES = (
    "af_za", "am_et", "ar_eg", "as_in", "ast_es", "az_az", "be_by", "bg_bg", "bn_in", "bs_ba", "ca_es", "ceb_ph",
    "ckb_iq", "cmn_hans_cn", "cs_cz", "cy_gb", "da_dk", "de_de", "el_gr", "en_us", "es_419", "et_ee", "fa_ir",
    "ff_sn", "fi_fi", "fil_ph", "fr_fr", "ga_ie", "gl_es", "gu_in", "ha_ng", "he_il", "hi_in", "hr_hr", "hu_hu",
    "hy_am", "id_id", "ig_ng", "is_is", "it_it", "ja_jp", "jv_id", "ka_ge", "kam_ke", "kea_cv", "kk_kz", "km_kh",
    "kn_in", "ko_kr", "ky_kg", "lb_lu", "lg_ug", "ln_cd", "lo_la", "lt_lt", "luo_ke", "lv_lv", "mi_nz", "mk_mk",
    "ml_in", "mn_mn", "mr_in", "ms_my", "mt_mt", "my_mm", "nb_no", "ne_np", "nl_nl", "nso_za", "ny_mw", "oc_fr",
    "om_et", "or_in", "pa_in", "pl_pl", "ps_af", "pt_br", "ro_ro", "ru_ru", "sd_in", "sk_sk", "sl_si", "sn_zw",
    "so_so", "sr_rs", "sv_se", "sw_ke", "ta_in", "te_in", "tg_tj", "th_th", "tr_tr", "uk_ua", "umb_ao", "ur_pk",
    "uz_uz", "vi_vn", "wo_sn", "xh_za", "yo_ng", "yue_hant_hk", "zu_za",
)  # fmt: skip

_GENDERS = {"MALE": "male", "FEMALE": "female", "OTHER": "other", "0": "male", "1": "female", "2": "other"}
_ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip")
_BATCH = 1000  # rows
_TABLE = ("id", "num_samples", "raw_transcription", "transcription", "gender")  # columns other than the audio
_TEXT = {"raw": "raw_transcription", "normalised": "transcription"}


def read_fleurs(
    root: Path,
    *,
    languages: Names = None,
    split: str | None = None,
    text: Literal["raw", "normalised"] = "raw",
    references: Names = None,
    log: Log = silent,
) -> Iterator[Utterance]:
    """Recordings of each split and language, with the sentence in the other languages as its translations.

    ``text`` is the transcription, with case and punctuation or without. ``references`` are the languages of the
    translations (None: all that are read), whose sentences are held in memory.
    """
    base = root / "data" if (root / "data").is_dir() else root
    folders = language_folders(base, languages, _holds_fleurs, FETCH, log)
    referenced = folders if references is None else language_folders(base, references, _holds_fleurs, FETCH)
    found = 0
    for name in SPLITS if split is None else (split,):
        parts = [part for folder, code in folders if (part := _part(folder, code, name))]
        missing = [folder.name for folder, code in folders if not _part(folder, code, name)]
        if missing and split is not None:
            raise CorpusError(f"{base}: no {name} of {', '.join(missing)} is here. {FETCH}")
        if missing and parts:
            log(f"fleurs: no {name} of {', '.join(missing)} is here")
        found += len(parts)
        others = [part for folder, code in referenced if (part := _part(folder, code, name))]
        sentences = {part.code: _sentences(part, text) for part in others if [part] != parts}
        for part in parts:
            yield from _read(part, _TEXT[text], sentences, log)
    if not found:
        raise CorpusError(f"{base}: no split of {', '.join(f.name for f, _ in folders)} is here. {FETCH}")


def download_fleurs(root: Path, languages: Names, split: str | None, log: Log) -> None:
    """Put the original files of some languages (all: 350 GB) below ``root/data``; existing files stay."""
    if not languages:
        raise UsageError("--download of FLEURS needs --languages; all 102 take about 350 GB")
    splits = SPLITS if split is None else (split,)
    names = [
        f"data/{code}/{name}"
        for code in map(fleurs_code, languages)
        for s in splits
        for name in (f"{s}.tsv", f"audio/{s}.tar.gz")
    ]
    download_files(REPOSITORY, names, root, by_hand=BY_HAND, log=log)


def fleurs_code(language: str) -> str:
    """FLEURS' own code of a language; UsageError if it lacks the language.

    >>> fleurs_code("zh"), fleurs_code("es"), fleurs_code("pt_br"), fleurs_code("jw")
    ('cmn_hans_cn', 'es_419', 'pt_br', 'jv_id')
    """
    requested = language.strip().lower().replace("-", "_")
    ours = normalise_language(language)
    for code in LANGUAGES:
        if code == requested or normalise_language(code) == ours:
            return code
    raise UsageError(f"FLEURS has no {language!r}; it has {' '.join(LANGUAGES)}")


CORPUS = Corpus(
    name="fleurs",
    title="FLEURS: 102 languages, one set of sentences, several recordings of each",
    read=read_fleurs,
    licence="CC-BY 4.0",
    fetch=FETCH,
    download=download_fleurs,
    splits=SPLITS,
)


@dataclass(frozen=True)
class _Part:
    folder: Path
    code: str
    split: str
    tables: tuple[Path, ...]

    @property
    def name(self) -> str:
        return f"{folder_name(self.folder)}/{self.split}"


def _holds_fleurs(folder: Path) -> bool:
    return any(_part(folder, "", split) for split in SPLITS)


def _part(folder: Path, code: str, split: str) -> _Part | None:
    """A tsv takes precedence over parquet files."""
    for table in (folder / f"{split}.tsv", folder / split / f"{split}.tsv"):
        if table.is_file():
            return _Part(folder, code, split, (table,))
    for name in (split, "validation") if split == "dev" else (split,):
        tables = sorted([*(folder / name).glob("*.parquet"), *folder.glob(f"{name}-*.parquet")])
        if tables:
            return _Part(folder, code, split, tuple(tables))
    return None


def _read(part: _Part, column: str, sentences: dict[str, dict[str, str]], log: Log) -> Iterator[Utterance]:
    name = part.name
    skipped = Skipped(f"fleurs {name}", log)
    rows = _with_clips(part, skipped, log) if part.tables[0].suffix == ".tsv" else _parquet_rows(part, skipped)
    for row, audio in rows:
        meaning, samples = str(row["id"]).strip(), str(row["num_samples"]).strip()
        yield Utterance(
            id=f"{name}/{stem(str(row['file_name']))}",
            audio=audio,
            language=part.code,
            text=row[column],
            translations={
                code: texts[meaning] for code, texts in sentences.items() if code != part.code and meaning in texts
            },
            meaning=meaning,
            split=part.split,
            gender=_GENDERS.get(str(row["gender"]).strip().upper()),
            duration=int(samples) / SAMPLE_RATE if samples.isdecimal() and int(samples) else None,
        )
    skipped.report()


def _with_clips(part: _Part, skipped: Skipped, log: Log) -> Iterator[tuple[dict[str, Any], AudioRef]]:
    folder, split = part.folder, part.split
    clips = Clips(
        [folder / "audio" / split, folder / split, folder / "audio" / split / split],
        [parent / f"{split}{ending}" for parent in (folder / "audio", folder) for ending in _ENDINGS],
        log=log,
        missing=f"{folder}: {split}.tsv is here, its recordings (audio/{split}.tar.gz or audio/{split}/) not. {FETCH}",
    )
    for row in clips.in_order(_tsv_rows(part, skipped), lambda row: row["file_name"]):
        audio = clips.find(row["file_name"])
        if audio is None:
            skipped.add("recording missing", row["file_name"])
        else:
            yield row, audio


def _tsv_rows(part: _Part, skipped: Skipped) -> Iterator[dict[str, Any]]:
    for number, row in read_table(part.tables[0], required=COLUMNS[:4], skipped=skipped, header=COLUMNS):
        if row["id"].strip() and row["file_name"].strip():
            yield row
        else:
            skipped.add("no id or file name", f"{part.tables[0].name}:{number}")


def _parquet_rows(part: _Part, skipped: Skipped) -> Iterator[tuple[dict[str, Any], AudioRef]]:
    """The recordings' bytes stay in the parquet files."""
    for path in part.tables:
        for number, row in _batches(path, [*_TABLE, "path", "audio.path"]):
            audio = row.get("audio", {})  # files without audio.path yield nothing
            inside = (audio or {}).get("path") or row.get("path")
            if row["id"] is None or audio is None:
                skipped.add("no id or recording", f"{path.name}, row {number}")
                continue
            name = posixpath.basename(inside) if inside else f"{path.stem}-{number}"
            yield {**row, "file_name": name}, AudioRef(str(path), member=row_member(number))


def _batches(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        lacking = {*_TABLE, "audio"} - set(file.schema_arrow.names)
        if lacking:
            raise ValueError(f"without a column {min(lacking)}")
        rows = (row for batch in file.iter_batches(_BATCH, columns=columns) for row in batch.to_pylist())
        yield from enumerate(rows)
    except (OSError, ValueError) as e:
        reason = " ".join(str(e).split())
        raise CorpusError(f"{path}: no parquet file of FLEURS ({reason}); fetch it again") from e


def _sentences(part: _Part, text: str) -> dict[str, str]:
    column = _TEXT[text]
    sentences: dict[str, str] = {}
    if part.tables[0].suffix == ".tsv":
        rows: Iterator[dict[str, Any]] = _tsv_rows(part, Skipped(part.name))
    else:
        rows = (row for path in part.tables for _, row in _batches(path, _TABLE))
    for row in rows:
        if row["id"] is not None and row[column] is not None:
            sentences.setdefault(str(row["id"]).strip(), row[column])
    return sentences
