"""The mean height of a curve, by which tuning chooses settings and tables compare methods."""

import numpy as np

END_SLACK = np.log1p(1e-3)  # a target CR of 10 met as 9.9996 counts as reached


def mean_height(
    log_cr: np.ndarray,
    accuracy: np.ndarray,
    start: float,
    stop: float,
    before: float | None = None,
    after: float | None = None,
) -> float:
    """Mean accuracy over log CR from `start` to `stop` > `start`, of points joined by straight lines: `log_cr` rising.

    Where the curve begins above `start`, its height is `before` up to there, where it ends below `stop`, `after` from
    there on; None: as at that end of the curve. NaN gives a curve without that part no height. Ends that miss the
    range by `END_SLACK` or less reach it.
    """
    begin = start if before is None or log_cr[0] - END_SLACK <= start else min(stop, log_cr[0])
    end = stop if after is None or stop <= log_cr[-1] + END_SLACK else max(start, log_cr[-1])
    at = np.concatenate([[begin], log_cr[(log_cr > begin) & (log_cr < end)], [end]])
    area = np.trapezoid(np.interp(at, log_cr, accuracy), at)
    if before is not None and begin > start:
        area += (begin - start) * before
    if after is not None and end < stop:
        area += (stop - end) * after
    return float(area / (stop - start))
