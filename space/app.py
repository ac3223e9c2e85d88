"""The page as a Hugging Face Space."""

import os

from interlingua.cli import main

main(
    [
        "serve",
        "--host",
        "0.0.0.0",
        "--port",
        os.environ.get("PORT", "7860"),
        "--max-upload",
        "50",
        "--max-minutes",
        "15",
    ]
)
