"""Whether a frame store's frames are what a decoder reads."""

from interlingua.encoding.store import FrameStore
from interlingua.errors import StoreMismatchError
from interlingua.models import Whisper


def require_decodable(store: FrameStore, whisper: Whisper) -> None:
    """Raise StoreMismatchError unless the frames are unpooled ones of the last layer of this very model."""
    spec = store.spec
    if spec.revision != whisper.revision or spec.layer != whisper.n_layers or spec.pooling > 1:
        raise StoreMismatchError(
            f"{store.path}: decoding reads unpooled frames of the last layer of {whisper.model_name} itself; it "
            f"holds layer {spec.layer} of {spec.model} (weights {spec.revision[:12]}, not {whisper.revision[:12]}), "
            f"pooled by {spec.pooling}; encode anew with --context full"
        )
