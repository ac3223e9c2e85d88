"""The report: built from saved results alone, true to the numbers, self-contained and safe."""

import copy
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interlingua.errors import ResultsError
from interlingua.report import alignment_heatmap, recall_heatmap, similarity_heatmap, write_report
from interlingua.report.plots import spread
from interlingua.report.records import read_records
from interlingua.report.summary import percent, summarise
from interlingua.results import save_results

LANGUAGES = ("en", "es", "fr", "it", "ru")
SIGNATURE = "positives:all-recordings|ties:pessimistic|bootstrap:clusters|n:2000|seed:12345|ci:95"
EASE = {"en": 0.42, "es": 0.30, "fr": 0.40, "it": 0.48, "ru": 0.24}
LEVELS = {"seqsim": 1.0, "mean-pool": 0.55, "duration": 0.06, "seqsim:log-mel": 0.09}


def score(query: str, candidate: str, method: str, r1: float, **changes: Any) -> dict[str, Any]:
    half = 0.06 * min(1.0, r1 * 6)
    return {
        "query": query,
        "candidate": candidate,
        "method": method,
        "n": 215,
        "n_candidates": 215,
        "n_clusters": 171,
        "r1": r1,
        "r1_ci": [max(0.0, r1 - half), min(1.0, r1 + half)],
        "r5": min(1.0, r1 * 1.5),
        "r10": min(1.0, r1 * 1.7),
        "mrr": min(1.0, r1 * 1.2),
        "mrr_ci": [max(0.0, r1 * 1.2 - half), min(1.0, r1 * 1.2 + half)],
        "r1_cluster": min(1.0, r1 * 1.1),
        "chance": 1 / 215,
        "chance_r5": 5 / 215,
        "chance_r10": 10 / 215,
        "signature": SIGNATURE,
        **changes,
    }


def words(text: str, seconds: float) -> list[dict[str, Any]]:
    parts = text.split()
    lengths = np.array([len(w) + 1 for w in parts], dtype=float)
    ends = np.cumsum(lengths) / lengths.sum() * (seconds - 0.3) + 0.1
    starts = np.concatenate([[0.1], ends[:-1]])
    return [
        {"word": w, "start": round(float(s), 2), "end": round(float(e), 2)}
        for w, s, e in zip(parts, starts, ends, strict=True)
    ]


def fake_results() -> dict[str, Any]:
    """Results of the shape and size that the demo writes."""
    rng = np.random.default_rng(1)
    retrieval = []
    for query, candidate in permutations(LANGUAGES, 2):
        base = (EASE[query] * EASE[candidate]) ** 0.5 * 1.35 - 0.03 + rng.normal(0, 0.01)
        for method, level in LEVELS.items():
            retrieval.append(score(query, candidate, method, round(base * level * 215) / 215))
        if {query, candidate} <= {"en", "fr", "it"}:
            retrieval.append(score(query, candidate, "seqsim:random-weights", 5 / 215))
    text_en = "Please enter the extension of the person you are looking for, followed by the pound key."
    text_fr = "Veuillez composer le numéro de poste de la personne que vous cherchez, suivi du dièse."
    credits_by_language = {
        "en": ("Allison Smith", "en-US", "CC-BY-SA 3.0"),
        "es": ("Allison Smith", "es-MX", "CC-BY-SA 3.0"),
        "fr": ("June Wallack", "fr-CA", "CC-BY-SA 3.0"),
        "it": ("Carlo Flora", "it-IT", "CC-BY 3.0"),
        "ru": ("Maxim Topal (IvrvoiceRU)", "ru-RU", "CC-BY 3.0"),
    }
    samples = [
        ("es", "Por favor, introduzca su contraseña.", "Please enter your password.", "Please enter your password."),
        ("fr", "Vous n'avez pas de nouveaux messages.", "You have no new messages.", "You don't have a new message."),
        ("it", "La conferenza è ora bloccata.", "The conference is now locked.", "The conference is now closed."),
        ("ru", "Вы вошли в конференцию.", "You have entered the conference.", "You entered the conference."),
    ]  # fmt: skip
    return {
        "title": "One sentence, five languages: retrieval in Whisper's shared space",
        "provenance": {
            "command": "interlingua demo --out runs/demo",
            "started": "2026-11-22T16:20:00+00:00",
            "seconds": 412.3,
            "version": "0.1.0",
            "commit": "139b494aa001",
            "dirty": True,
            "python": "3.11.2",
            "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
            "packages": {"torch": "2.12.0", "numpy": "2.3.1", "ctranslate2": "4.6.0", "av": None},
            "device": {"name": "AMD EPYC 9V74", "threads": 2, "compute": "float32"},
        },
        "settings": {
            "model": "base",
            "layer": 6,
            "context": "speech",
            "pooling": 1,
            "normalise": False,
            "languages": list(LANGUAGES),
            "reduction": "f1",
        },
        "corpus": {
            "title": "Asterisk core sounds 1.6.1 (Digium and contributors)",
            "n_meanings": 215,
            "n_clusters": 171,
            "rules": [
                "Prompts that are recorded in all five languages, with at least four English words.",
                "Silences and beeps are left out: they would count as perfect retrieval.",
            ],
            "languages": [
                {"language": code, "n": 215, "seconds": 1000.0 + 40 * i, "voice": voice, "variety": variety,
                 "licence": licence}
                for i, (code, (voice, variety, licence)) in enumerate(credits_by_language.items())
            ],
        },
        "retrieval": retrieval,
        "translation": [
            {
                "source": code, "target": "en", "system": "base, greedy", "n": 215,
                "bleu": {"value": bleu, "ci": [bleu - 2.1, bleu + 2.4], "n": 215,
                         "signature": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5.1"},
                "chrf": {"value": 2 * bleu + 11, "ci": [2 * bleu + 9, 2 * bleu + 13.5], "n": 215,
                         "signature": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.5.1"},
            }
            for code, bleu in (("es", 18.3), ("fr", 14.7), ("it", 15.2), ("ru", 7.4))
        ],
        "samples": [
            {"id": f"{source}/{i}", "source": source, "target": "en", "transcript": said, "reference": reference,
             "hypothesis": hypothesis}
            for i, (source, said, reference, hypothesis) in enumerate(samples * 2)
        ],
        "alignment": {
            "query": {"id": "en/dir-x", "language": "en", "text": text_en, "seconds": 5.9,
                      "words": words(text_en, 5.9)},
            "candidate": {"id": "fr/dir-x", "language": "fr", "text": text_fr, "seconds": 6.8,
                          "words": words(text_fr, 6.8)},
            "precision": 0.712, "recall": 0.694, "f1": 0.703,
        },
        "similarity": {"query": "en", "candidate": "fr", "method": "seqsim"},
        "timings": {"corpus": 4.2, "encode": 251.0, "seqsim": 61.4, "translate": 80.9},
    }  # fmt: skip


def fake_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    i, j = np.arange(150)[:, None] / 150, np.arange(170)[None, :] / 170
    path = np.exp(-(((i - j - 0.05 * np.sin(9 * i)) / 0.05) ** 2)) + 0.6 * np.exp(-(((i + 0.3 - j) / 0.03) ** 2))
    alignment = 0.35 + 0.4 * path + 0.05 * np.sin(40 * i) * np.cos(35 * j) + 0.03 * rng.standard_normal((150, 170))
    similarity = 0.6 + 0.03 * rng.standard_normal((215, 215)) + 0.02 * rng.standard_normal((1, 215))
    similarity += 0.1 * np.eye(215)
    return {"alignment": alignment.astype(np.float32), "similarity": similarity.astype(np.float32)}
