"""Reports: one self-contained HTML page of a result folder or of several, and pictures for documents."""

from interlingua.report.compare import write_comparison
from interlingua.report.page import SECTIONS, write_report
from interlingua.report.plots import alignment_heatmap, recall_heatmap

__all__ = ["SECTIONS", "alignment_heatmap", "recall_heatmap", "write_comparison", "write_report"]
