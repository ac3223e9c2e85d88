"""Reports: one self-contained HTML page of a result folder or of several, and the README's pictures."""

from interlingua.report.comparison import write_comparison
from interlingua.report.plots import alignment_heatmap, recall_heatmap, similarity_heatmap
from interlingua.report.suite import write_report

__all__ = ["alignment_heatmap", "recall_heatmap", "similarity_heatmap", "write_comparison", "write_report"]
