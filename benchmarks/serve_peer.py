"""faster-whisper behind FastAPI, as its documentation shows it: what one would write in an afternoon.

`uvicorn --factory serve_peer:app`; ``SERVE_PEER_MODEL``: folder of weights; ``SERVE_PEER_WORKERS``: batches at a time.
"""

import os

from fastapi import FastAPI, UploadFile
from faster_whisper import WhisperModel


def app() -> FastAPI:
    workers = int(os.environ["SERVE_PEER_WORKERS"])
    weights = os.environ["SERVE_PEER_MODEL"]
    model = WhisperModel(weights, device="cpu", compute_type="int8", cpu_threads=1, num_workers=workers)
    served = FastAPI()

    @served.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @served.post("/v1/audio/translations")
    def translations(file: UploadFile) -> dict[str, str]:
        segments, _ = model.transcribe(file.file, task="translate", beam_size=1, vad_filter=True)
        return {"text": "".join(s.text for s in segments).strip()}

    return served
