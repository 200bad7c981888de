"""The methods DWF is compared with, one short file each; dwfbench finds them as it would a third party's."""

from importlib import import_module
from importlib.util import find_spec


def __getattr__(name: str):
    """``baselines.snip`` and the others, loaded when first used."""
    if not name.startswith("_") and find_spec(f"baselines.{name}"):
        return import_module(f"baselines.{name}")
    raise AttributeError(f"module 'baselines' has no attribute {name!r}")
