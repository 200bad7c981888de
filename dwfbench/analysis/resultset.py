"""Results, read once and passed on: what tables, figures and the report look at, and what a notebook works with."""

import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import pandas as pd

from dwfbench.analysis import axes, claims, dynamics, frames, latency, statistics
from dwfbench.analysis.curves import AT, bands, matched
from dwfbench.analysis.matched import MAX_GAP
from dwfbench.runs import resultsets
from dwfbench.runs.claims import Claim
from dwfbench.runs.record import Record, Study
from dwfbench.runs.selection import Names, counted_at, filter_records


class ResultSet:
    """Records, tuning studies and claims; their frames are made when first asked for, and labelled once.

    `records` are by id, the last of one id; `studies` and `claimed` are lists. The frames hold percent, CRs (numel /
    nnz) and seconds, and name a curve by `dataset`, `model` and `label`; those of no records have the same columns.
    They are shared by all who ask: do not change one, copy it.
    """

    def __init__(self, records: Iterable[Record], studies: Iterable[Study] = (), claimed: Iterable[Claim] = ()) -> None:
        self.records = {record.id: record for record in records}
        self.studies = list(studies)
        self.claimed = list(claimed)

    @classmethod
    def open(cls, *sources: str | Path) -> Self:
        """The results in folders and archives ("results", "theirs.zip", "name=theirs.zip"), with all that they hold.

        Several are merged as the commands merge them. What is damaged is left out, with a warning. Raises UsageError
        for a source that is not there, an archive that cannot be read and a name given twice.
        """
        named_sources = resultsets.sources(sources)
        records, damaged = resultsets.load(named_sources, history=True, weights=True, measurement=True)
        studies, damaged_too = resultsets.studies(named_sources)
        for sentence in dict.fromkeys([*damaged, *damaged_too]):
            warnings.warn(sentence, stacklevel=2)
        return cls(records, studies, resultsets.claims(named_sources))

    @cached_property
    def _labelled(self) -> pd.DataFrame:
        return frames.labelled(list(self.records.values()))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per usable run: status ok, with a finite compression and accuracy. A run given twice is one
        row.

        Columns: id; curve (hash of the fields that make a curve); label (made unique within a data set and
        model by appending what differs, "dwf D=3 (epochs=100)"); method; depth (NaN if none); dataset; model;
        seed; epochs; knob (strength, compression or None); knob_value; compression (achieved CR); accuracy,
        val_accuracy (percent); effective_compression (CR of live paths); seconds; macs (sparse / dense, 0 to 1);
        connected; data_checksum; torch (its version) and device, on which the last digits depend; extra_passes
        (over a batch, beside the epochs; NaN in records of earlier versions); set (name of the result set that tells
        the run's curve apart from another one's, else None); sources (of several sets that are read, the
        names of those that have the curve); chance (accuracy of guessing, percent); unsound (why a run
        that ended well is no result, see `soundness`; else None); numel (its prunable weights, infinite where the
        record does not say); precision, batch_size, val_fraction, augment, image_size (None for the data set's);
        score (what the accuracies are: "accuracy", or the name of the data set's own score); tuned (what a study
        chose for the run, along a curve not the same: "lr=0.16", else None).
        """
        runs = self._labelled
        return runs.loc[runs["usable"], frames.FRAME].reset_index(drop=True)

    @cached_property
    def failures(self) -> pd.DataFrame:
        """One row per run that `runs` leaves out: id, label, method, dataset, model, seed, knob, knob_value, status,
        error.
        """
        runs = self._labelled
        return runs.loc[~runs["usable"], frames.FAILURES].reset_index(drop=True)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row per usable run and prunable layer, see `frames.layers`."""
        return frames.layers(self.records, self.runs)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per usable run and epoch, see `dynamics.histories`; empty for records read without their history."""
        return dynamics.histories(self.records, self.runs)

    @cached_property
    def phases(self) -> pd.DataFrame:
        """One row per usable run with a strength, see `dynamics.phases`."""
        return dynamics.phases(self.records, self.runs)

    @cached_property
    def latency(self) -> pd.DataFrame:
        """One row per usable run that was measured, form and batch size, see `latency.frame`."""
        return latency.frame(self.records, self.runs)

    def weights(self, compression: float = 100.0) -> pd.DataFrame:
        """Sizes of the weights of each curve's run nearest to this CR, see `dynamics.weights`."""
        return dynamics.weights(self.records, self.runs, compression)

    def curves(self, max_gap: float = MAX_GAP) -> pd.DataFrame:
        """Each curve's mean over seeds with a band, on a grid of CRs, see `curves.bands`."""
        return bands(self.runs, max_gap)

    def at(self, compressions: Sequence[float] = AT, max_gap: float = MAX_GAP) -> pd.DataFrame:
        """Accuracy at matched compression, see `curves.matched`."""
        return matched(self.runs, compressions, max_gap)

    def versus(self, name: str, compressions: Sequence[float] = AT, max_gap: float = MAX_GAP) -> pd.DataFrame:
        """Accuracy minus that of a curve (its label, or a method of one label), see `statistics.differences`."""
        label = statistics.label_of(self.runs, name)
        return statistics.differences(self.runs, label, compressions, max_gap=max_gap)

    def claims(self) -> pd.DataFrame:
        """Verdicts on the paper's claims and on those of these results, which replace the paper's of the same name, see
        `claims.verdicts`."""
        claims_by_name = {claim.name: claim for claim in (*claims.shipped(), *self.claimed)}
        return claims.verdicts(self.records, self.runs, claims_by_name.values())

    def only(self, dataset: Names = None, model: Names = None, method: Names = None) -> Self:
        """Of these results the ones of the named data sets, models and methods, labelled as among all; None lets
        everything through.
        """
        if dataset is model is method is None:
            return self
        selected = type(self)(filter_records(self.records.values(), dataset, model, method), self.studies, self.claimed)
        selected._labelled = self._labelled[self._labelled["id"].isin(selected.records.keys())]
        return selected

    def along(self, axis: str) -> Self:
        """The same results along another axis of `axes.CURVES`: what `runs` calls compression is the place on it, and
        runs without one are left out; dense ones are at 1. Raises UsageError for an axis that is none of curves.
        """
        moved = type(self)(self.records.values(), self.studies, self.claimed)
        labelled = axes.along(self._labelled, axis)
        labelled.loc[labelled["method"] == "dense", "compression"] = 1.0
        moved._labelled = labelled[labelled["compression"].notna() | ~labelled["usable"]]
        return moved

    def counted_at(self, threshold: float) -> Self:
        """The same results as they are when every |w| below `threshold` is cut, see `counted_at`."""
        return type(self)(counted_at(self.records.values(), threshold), self.studies, self.claimed)
