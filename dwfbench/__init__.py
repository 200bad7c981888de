"""dwfbench: Deep Weight Factorization and pruning baselines, compared at equal budgets.

The library face puts DWF on any ``nn.Module``: ``factorize``, ``param_groups``, ``collapse``, ``misalignment``,
``init_statistics``, ``suggest``, ``sparsity_report``, ``decay_budget``; ``open`` reads results
for a notebook. Names are loaded when first used, so that the command line starts without torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "factorize": "dwfbench.dwf.module",
    "param_groups": "dwfbench.dwf.module",
    "collapse": "dwfbench.dwf.module",
    "misalignment": "dwfbench.dwf.module",
    "init_statistics": "dwfbench.dwf.module",
    "decay_budget": "dwfbench.dwf.factors",
    "suggest": "dwfbench.dwf.suggest",
    "sparsity_report": "dwfbench.sparsity.report",
    "open": "dwfbench.show.notebook",
}

__all__ = ["__version__", *(name for name in _HOMES if name != "open")]  # a star must not hide Python's own open


def __dir__() -> list[str]:
    """What is to be used, so that completion shows that and nothing else."""
    return sorted(["__version__", "dwf", "sparsity", *_HOMES])


def __getattr__(name: str):
    if name in ("dwf", "sparsity"):
        return import_module(f"dwfbench.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'dwfbench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
