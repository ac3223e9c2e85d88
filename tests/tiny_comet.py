"""Makes a COMET checkpoint with random weights and scores segments by it, one by one, by COMET's own Python interface.

Run by COMET's own environment: ``python -I tiny_comet.py FOLDER SEGMENTS.json SCORES.json``. The folder is laid out as
on the hub: ``hparams.yaml`` and ``checkpoints/model.ckpt``; beside them lies the tiny XLM-R.
"""

import json
import sys
from pathlib import Path


def main(folder: Path, segments: Path, scores: Path) -> None:
    import pytorch_lightning
    import torch
    import yaml
    from comet import load_from_checkpoint
    from comet.models import RegressionMetric
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import Unigram
    from transformers import XLMRobertaConfig

    encoder = folder / "encoder"
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = "▁abcdefghijklmnopqrstuvwxyz.,'"
    tokenizer = Tokenizer(Unigram([*((t, 0.0) for t in special), *((c, -3.0) for c in letters)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    encoder.mkdir(parents=True)
    tokenizer.save(str(encoder / "tokenizer.json"))
    XLMRobertaConfig(
        vocab_size=len(special) + len(letters),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=130,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
    ).save_pretrained(encoder)
    torch.manual_seed(0)
    model = RegressionMetric(
        pretrained_model=str(encoder), load_pretrained_weights=False, hidden_sizes=[32, 16], nr_frozen_epochs=0
    )
    with torch.no_grad():
        for parameter in model.parameters():  # the library's own start is so small that all sentences look alike
            if parameter.ndim > 1:
                parameter.mul_(3)
    (folder / "checkpoints").mkdir()
    saved = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": pytorch_lightning.__version__,
    }
    torch.save(saved, folder / "checkpoints" / "model.ckpt")
    hparams = {"class_identifier": "regression_metric", "pretrained_model": str(encoder)}
    (folder / "hparams.yaml").write_text(yaml.safe_dump(hparams), encoding="utf-8")
    loaded = load_from_checkpoint(str(folder / "checkpoints" / "model.ckpt"))
    asked = [dict(zip(("src", "mt", "ref"), s, strict=True)) for s in json.loads(segments.read_text(encoding="utf-8"))]
    found = [loaded.predict([one], gpus=0, progress_bar=False).system_score for one in asked]
    scores.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
