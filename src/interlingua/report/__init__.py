"""Reports: one self-contained HTML page of a result folder or of several, and the README's pictures."""

from interlingua.report.comparison import write_comparison
from interlingua.report.page import write_report
from interlingua.report.plots import alignment_heatmap, recall_heatmap, similarity_heatmap

__all__ = ["alignment_heatmap", "recall_heatmap", "similarity_heatmap", "write_comparison", "write_report"]
