"""Which language is spoken, by Whisper's own judgement."""

import numpy as np
import torch

from interlingua.models import Whisper
from interlingua.types import FrameArray


def detect_language(whisper: Whisper, frames: FrameArray) -> tuple[str, float]:
    """The likeliest language of an utterance, as Whisper's code, and its probability among all languages.

    See `language_probabilities`.
    """
    heard = language_probabilities(whisper, frames)
    best = max(heard, key=lambda code: heard[code])
    return best, round(heard[best], 4)


def language_probabilities(whisper: Whisper, frames: FrameArray) -> dict[str, float]:
    """How likely an utterance is in each language that has a token, by Whisper's code.

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
    return dict(zip(whisper.languages, logits[tokens].softmax(dim=0).tolist(), strict=True))
