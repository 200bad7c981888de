"""Deep Weight Factorization on any ``nn.Module``, usable alone: factors, gates, which weights, and the modules."""

from dwfbench.dwf.factors import decay_budget
from dwfbench.dwf.module import collapse, factorize, init_statistics, misalignment, param_groups

__all__ = ["collapse", "decay_budget", "factorize", "init_statistics", "misalignment", "param_groups"]
