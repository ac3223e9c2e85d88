"""Reports: one self-contained HTML page and the README's pictures, from a saved result folder alone."""

from interlingua.report.page import write_report
from interlingua.report.plots import alignment_heatmap, recall_heatmap, similarity_heatmap

__all__ = ["alignment_heatmap", "recall_heatmap", "similarity_heatmap", "write_report"]
