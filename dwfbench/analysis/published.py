"""Results that others have published, from ``published.toml``, as a tidy frame."""

import tomllib
from importlib.resources import files

import pandas as pd

COLUMNS = ["dataset", "model", "method", "compression", "accuracy", "source"]


def published() -> pd.DataFrame:
    """One row per point: dataset, model, method (its published name), compression (weights by those that are not zero),
    accuracy (percent, on the test set), source.
    """
    text = (files("dwfbench.analysis") / "published.toml").read_text(encoding="utf-8")
    points = pd.DataFrame(tomllib.loads(text)["point"])
    return points.assign(accuracy=100 - points["error"])[COLUMNS]
