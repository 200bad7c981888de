"""The methods DWF is compared with, one short file each; dwfbench finds them as it would a third party's."""

from importlib import import_module

NAMES = (
    *(
        "dense",
        "gmp",
        "grasp",
        "imp",
        "l1",
        "lamp",
        "magnitude",
        "powerprop",
        "random",
        "ratios",
        "rigl",
        "set",
        "snip",
    ),
    *("spred", "str", "synflow"),
)


def __getattr__(name: str):
    """``baselines.snip`` and the others, loaded when first used."""
    if name in NAMES:
        return import_module(f"baselines.{name}")
    raise AttributeError(f"module 'baselines' has no attribute {name!r}")
