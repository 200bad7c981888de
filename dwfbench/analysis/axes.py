"""Along what curves are drawn and read: the compression ratio, or another size of the network or cost of its training.

Runs lie in the same order along the first three, CURVES, which are ratios of dense to sparse: there a curve can be read
between runs, and methods be compared at one of its places.
"""

import math
from typing import TYPE_CHECKING

from dwfbench.base.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from dwfbench.analysis.resultset import ResultSet

AXES = {
    "compression": "compression ratio",
    "effective": "effective compression ratio",
    "macs": "MACs of dense / MACs",
    "bytes": "bytes of dense / bytes of the smaller form",
    "training-cost": "seconds of training",
}
CURVES = ("compression", "effective", "macs")
NO_CURVE = {
    "bytes": "few runs are measured, so that no curve can be read between them",
    "training-cost": "runs take about as long at every compression, so that no two methods can be read at one cost",
}
"""Why methods are not compared along the other axes."""


def across(results: "ResultSet", axis: str) -> "pd.Series":
    """Where the runs of `ResultSet.runs` lie on an axis; NaN or infinite where that is not known."""
    if axis == "bytes":
        forms = results.latency.drop_duplicates(["id", "form"]).pivot(index="id", columns="form", values="bytes")
        forms = forms.reindex(columns=["dense", "sparse", "compact"])
        return results.runs["id"].map(forms["dense"] / forms[["sparse", "compact"]].min(axis=1))
    return _column(results.runs, axis)


def along(runs: "pd.DataFrame", axis: str) -> "pd.DataFrame":
    """The runs with their place on one of CURVES as their `compression`, NaN where it is not known.

    Raises UsageError for another axis.
    """
    if axis not in CURVES:
        raise UsageError(
            f"Methods are not compared along {axis}: {NO_CURVE[axis]}; `dwfbench plot --axis {axis}` draws the runs."
        )
    places = _column(runs, axis)
    numel = runs["numel"] if axis != "macs" else math.inf  # half a weight is no fixed number of MACs
    return runs.assign(compression=places.where(places < math.inf), numel=numel)


def _column(runs: "pd.DataFrame", axis: str) -> "pd.Series":
    columns = {"compression": "compression", "effective": "effective_compression", "training-cost": "seconds"}
    return 1 / runs["macs"] if axis == "macs" else runs[columns[axis]]
