"""What is zero and what that is worth: masks, counts, multiplications and live paths."""

from dwfbench.models.prunable import prunable
from dwfbench.sparsity.masks import top_k_masks
from dwfbench.sparsity.report import sparsity_report

__all__ = ["prunable", "sparsity_report", "top_k_masks"]
