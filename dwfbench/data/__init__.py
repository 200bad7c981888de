"""Data sets, from files to tensors on the device, with their augmentation.

Names are loaded when first used, so that the processes that decode images start without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dwfbench.data.dataset import Dataset, Split, load
    from dwfbench.data.readers import DataError, Places, Source, Tensors

__all__ = ["DataError", "Dataset", "Places", "Source", "Split", "Tensors", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dwfbench.data' has no attribute {name!r}")
    home = "dataset" if name in ("Dataset", "Split", "load") else "readers"
    return getattr(import_module(f"dwfbench.data.{home}"), name)
