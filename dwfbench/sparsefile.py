"""Sparse files, under the name that the README gives: see ``dwfbench.deploy.sparsefile``."""

from dwfbench.deploy.sparsefile import load_sparse

__all__ = ["load_sparse"]
