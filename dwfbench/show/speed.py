"""What `dwfbench measure` measured, as a table: a row for every form of every run, columns for every batch size."""

from collections.abc import Sequence

import pandas as pd

from dwfbench.analysis.frames import KEYS
from dwfbench.base.text import ACCURACY, short
from dwfbench.show.tables import LEFT

OWN = (*LEFT, "Run", "CR", "Form", "test %", "MACs", "Bytes", "zlib")  # columns that are no times
BESIDE = (" iqr", " outliers", " low", " high")  # columns that belong to one before them


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """`latency.frame` with one row per run and form, by data set, model, label and CR; dense, sparse, compact.

    Columns (numbers, unrounded): Dataset, Model, Method (the label), Run (its id), CR, Form, "test %", MACs, Bytes (of
    the weights' file), zlib (those compressed); "ms at 32" (median time of a pass in milliseconds) and "x at 32"
    (speed-up over dense) for every batch size; beside the first "... iqr" (interquartile range) and "... outliers"
    (rounds), beside the second "... low" and "... high" (95 % interval).
    """
    columns = [*KEYS, "id", "compression", "form", "accuracy", "macs", "bytes", "bytes_zlib"]
    rows = measured.rename(columns=dict(zip(columns, OWN, strict=True)))
    wide = rows[list(OWN)].drop_duplicates().set_index(["Run", "Form"])
    for batch, values in rows.groupby("batch"):
        values = values.set_index(["Run", "Form"])
        wide[f"ms at {batch}"] = 1000 * values["median"]
        wide[f"ms at {batch} iqr"] = 1000 * values["iqr"]
        wide[f"ms at {batch} outliers"] = values["outliers"]
        wide[f"x at {batch}"] = values["speedup"]
        for end in ("low", "high"):
            wide[f"x at {batch} {end}"] = values[end]
    times = [name for name in wide if name not in OWN]
    return wide.reset_index().sort_values([*LEFT, "CR", "Run"], kind="stable")[[*OWN, *times]]


def caption(places: Sequence[str], score: str = ACCURACY) -> str:
    """What a `table` shows, and where it was measured."""
    return (
        f"Measured on {' and '.join(places)}. test %: {score} on the test set. "
        "ms: median time of a forward pass of so many samples [interquartile "
        "range], *3: three rounds were outliers; x: dense's time over the form's, median of the rounds [95 % interval]."
        " sparse: Linear layers as torch.sparse_csr, convolutions dense; compact: without dead neurons and channels. "
        "Bytes: of the weights as safetensors, and compressed by zlib."
    )


def cells(table: pd.DataFrame) -> list[list[str]]:
    """A `table` as rows of short texts, the header first: "0.0451 [0.003] *2", "2.31 [2.2-2.4]"."""
    names = [name for name in table.columns if not name.endswith(BESIDE)]
    return [names, *[[_cell(row, name) for name in names] for row in table.to_dict("records")]]


def _cell(row: dict, name: str) -> str:
    value = row[name]
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "-"
    if name in ("MACs", "Bytes", "zlib"):
        return f"{value:,.0f}"
    if name == "test %":
        return f"{value:.2f}"
    if name.startswith("ms"):
        odd = row[f"{name} outliers"]
        return f"{short(value)} [{row[f'{name} iqr']:.2g}]" + (f" *{odd:.0f}" if odd > 0 else "")
    if not name.startswith("x"):
        return short(value)
    low, high = row[f"{name} low"], row[f"{name} high"]
    return f"{short(value)} [{short(low)}-{short(high)}]" if low < high else short(value)
