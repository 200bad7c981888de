"""What is zero and what that is worth: masks, counts, multiplications and live paths."""

from dwfbench.sparsity.count import prunable, sparsity_report
from dwfbench.sparsity.masks import top_k_masks

__all__ = ["prunable", "sparsity_report", "top_k_masks"]
