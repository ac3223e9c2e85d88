"""Which language is spoken, by Whisper's own judgement."""

import numpy as np
import torch

from interlingua.models import Whisper
from interlingua.types import FrameArray


def detect_language(whisper: Whisper, frames: FrameArray) -> tuple[str, float]:
    """The likeliest language of an utterance, as Whisper's code, and its probability among all languages.

    One decoder step behind the start token alone, of which the language tokens are compared, as OpenAI's
    ``detect_language`` does (Radford et al., arXiv 2212.04356, section 2.3).

    Args:
        whisper: the model that made the frames.
        frames: (T, D), encoded with full context; all T frames are read.

    Raises:
        EnglishOnlyModelError: the model has no language tokens.
    """
    model = whisper.model
    tokens = [whisper.language_token(code) for code in whisper.languages]
    weight = model.proj_out.weight
    hidden = torch.from_numpy(np.array(frames)).to(weight.device, weight.dtype)[None]
    start = torch.tensor([[model.generation_config.decoder_start_token_id]], device=weight.device)
    with torch.inference_mode():
        decoded = model.model.decoder(input_ids=start, encoder_hidden_states=hidden)
        logits = model.proj_out(decoded.last_hidden_state[0, -1]).float()
    probabilities = logits[tokens].softmax(dim=0)
    best = int(probabilities.argmax())
    return whisper.languages[best], round(float(probabilities[best]), 4)
