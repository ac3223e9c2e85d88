"""The transfer study: fine-tunings with and without remedies, and controls, compared at equal budget.

On the prompts corpus everything is split by near-duplicate cluster and rotated; other corpora have splits of their own
(Ma et al., arXiv 2407.01130, section 4.3: CoVoST 2 to train on, FLEURS to test on). What a variant leaves open (the
share of the change that is kept) is chosen on dev; all is measured on test. Every answer is kept, so an interrupted
study goes on where it was.

Its way: `settings` (what is asked) -> `data` (who is trained on, chosen by and tested on) -> `work` (trainings and
answers, kept) -> `measuring` (rows and intervals) -> `study` (all of it).
"""

from interlingua.experiments.transfer_study.settings import CONTEXT, PERMUTED, PLAIN, TransferStudy
from interlingua.experiments.transfer_study.study import run_transfer_study

__all__ = ["CONTEXT", "PERMUTED", "PLAIN", "TransferStudy", "run_transfer_study"]
