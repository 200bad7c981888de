"""What is zero and what that is worth: masks, counts, multiplications and live paths."""

from dwfbench.models.prunable import prunable
from dwfbench.sparsity.count import sparsity_report
from dwfbench.sparsity.masks import top_k_masks

__all__ = ["prunable", "sparsity_report", "top_k_masks"]
