"""Runs that ended well and are no results all the same: what a table, a message and an exit code must say of them."""

from collections.abc import Sequence

from dwfbench.runs.curve import curve_key
from dwfbench.runs.record import Record

GUESSING = "no better than chance"
CUT_OFF = "no path from input to output"
STUCK = "never left CR 1"

MARGIN = 0.1
"""A run is no better than chance within a tenth of chance accuracy, or of what is above it, or one point if that is
less: a network that has learned nothing may be right about some samples more."""

LEFT = 1.05
"""The CR from which a run has left 1."""


def chance(record: Record) -> float | None:
    """Accuracy of guessing, 0 to 1; None where the record does not say it.

    Records of earlier versions have no ``chance``: it is that of as many equal classes as the last layer has outputs,
    and 0 of a score of the data set's own.
    """
    if record.chance is not None or record.score is not None:
        return record.chance or 0.0
    shape = record.layers[-1].shape if record.layers else []
    return 1 / shape[0] if shape and shape[0] else None


def guesses(accuracy: float, chance: float) -> bool:
    """Whether an accuracy is no better than chance, by MARGIN; both 0 to 1."""
    return accuracy <= chance + min(MARGIN * chance, MARGIN * (1 - chance), 0.01)


def unsound(records: Sequence[Record], keys: Sequence[str] | None = None) -> dict[str, str]:
    """Why runs that ended well are no results, by id: CUT_OFF, GUESSING or STUCK. Sound runs are not in it.

    Stuck is a run that was asked for a compression and has none. A strength by itself asks for none: a run of one is
    stuck if no run of its curve and seed has left CR 1. `keys` are those of the records' curves, where they are known.
    """
    keys = [curve_key(record) for record in records] if keys is None else keys
    finished = [(record, (key, record.spec.seed)) for record, key in zip(records, keys, strict=True) if _ended(record)]
    moving = {curve for record, curve in finished if (record.compression or 1) >= LEFT}
    reasons = {record.id: _reason(record, curve in moving) for record, curve in finished}
    return {run_id: reason for run_id, reason in reasons.items() if reason}


def _ended(record: Record) -> bool:
    return record.status == "ok" and record.compression is not None


def is_guessing(record: Record) -> bool:
    """Whether a run ended no better than chance, on the test data if it has seen them."""
    accuracy = record.val_accuracy if record.test_accuracy is None else record.test_accuracy
    guessed = chance(record)
    return accuracy is not None and guessed is not None and guesses(accuracy, guessed)


def _reason(record: Record, moving: bool) -> str | None:
    if record.connected is False:
        return CUT_OFF
    if is_guessing(record):
        return GUESSING
    return STUCK if _stuck(record, moving) else None


def _stuck(record: Record, moving: bool) -> bool:
    if (record.compression or 1) >= LEFT or not record.knob_value:
        return False
    return record.knob_value >= LEFT if record.knob == "compression" else not moving
