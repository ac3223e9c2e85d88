"""One vector an utterance, whose inner products estimate SeqSim: the first stage of a search.

SeqSim to a sample of utterances, the anchors, says where an utterance lies; Nyström's method turns these scores into
coordinates (Williams & Seeger, *Using the Nyström method to speed up kernel machines*, NIPS 2000): with the anchors'
scores K among themselves, k(u) and k(v) of two utterances give k(u) K^-1 k(v) ~ SeqSim(u, v). They find more
of SeqSim's best than means of frames, MUVERA's and LEMUR's encodings (benchmarks/index_vectors.py).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from interlingua.retrieval.seqsim import Packed, Progress, SimilarityCompute, pack, seqsim
from interlingua.types import FrameArray

RIDGE = 0.03  # of the mean eigenvalue: SeqSim is no kernel, and directions of small or negative ones mean nothing


class AnchorVectors:
    """Coordinates by SeqSim to anchors, as the method compares frames: whitened, with position.

    Queries and candidates have the same vector. ``compute`` is the number format of the scores; ``matrix`` that of the
    same anchors, if it is known.
    """

    def __init__(
        self,
        anchors: Sequence[FrameArray] | Packed,
        compute: SimilarityCompute = "float32",
        matrix: Float32[np.ndarray, "A V"] | None = None,
    ) -> None:
        self._anchors = anchors if isinstance(anchors, Packed) else pack(anchors, compute=compute)
        self._compute: SimilarityCompute = compute
        self.matrix = self._nystroem() if matrix is None else matrix

    def _nystroem(self) -> Float32[np.ndarray, "A V"]:
        scores = seqsim(self._anchors, self._anchors, compute=self._compute).astype(np.float64)
        values, directions = np.linalg.eigh((scores + scores.T) / 2)
        positive = np.maximum(values, 0)
        roots = np.sqrt(positive) / (positive + RIDGE * values.mean())
        matrix: np.ndarray = (directions * roots)[:, ::-1].astype(np.float32)
        return matrix

    @property
    def width(self) -> int:
        """V: an anchor, a value; the first ones carry most."""
        return len(self.matrix)

    def __call__(
        self, utterances: Sequence[FrameArray] | Packed, advance: Progress | None = None
    ) -> Float32[np.ndarray, "N V"]:
        """Vectors of utterances, (T, D) each, whitened and with position; packed ones are of the same format."""
        return self.project(seqsim(utterances, self._anchors, compute=self._compute, advance=advance))

    def project(self, scores: Float32[np.ndarray, "N A"]) -> Float32[np.ndarray, "N V"]:
        """Vectors from scores to the anchors."""
        vectors: np.ndarray = scores @ self.matrix
        return vectors
