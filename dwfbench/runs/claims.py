"""Claims: sentences that records can support or contradict, each with the one comparison that decides it.

A result set may have a ``claims.toml`` beside its runs; the paper's come with dwfbench. A file is a list of tables
``[[claim]]`` with the fields of `Claim`. What decides is computed by ``dwfbench.analysis.claims``; nobody types it.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from dwfbench.base import files, toml
from dwfbench.base.errors import UsageError, one_line
from dwfbench.runs.record import Positive, Ratio, Scalar, Text

FILE = "claims.toml"
MOST = 1 << 16
"""Bytes of a file of claims."""


class Claim(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim about two curves of one data set, model and budget: that of ``first`` and that of ``second``.

    Both are named by settings: the method, and whatever options and fields of a spec tell its curves apart, such as
    ``{method = "dwf", depth = 3}``; of an option without a value the value is "none", as in recipes.
    """

    name: Annotated[str, Meta(pattern=r"^[\w.-]{1,40}$")]
    sentence: Text
    source: Text
    """Where it is claimed, and what in the comparison is our own."""
    first: dict[Text, Scalar]
    second: dict[Text, Scalar]
    quantity: Literal["accuracy", "accuracy at strength", "compression", "seconds"]
    """Test accuracy in percent, at the compression ratios ``at`` or at equal strengths; the largest compression ratio
    within ``tolerance`` points of dense; seconds of a run. The former two are subtracted, of the latter two ratios are
    taken: how many times second's is first's."""
    at: list[Ratio] = []
    """Of several ratios the mean difference counts."""
    tolerance: Positive | None = None
    expected: Literal["above", "equal", "at most"]
    """Of first against second: larger; within ``smallest`` of it, either way; larger by ``smallest`` at most."""
    smallest: Annotated[float, Meta(gt=0, le=1e6)]
    """The smallest effect that matters: a difference in points of accuracy, or a factor above 1."""

    @property
    def is_ratio(self) -> bool:
        return self.quantity in ("compression", "seconds")


class _File(Struct, forbid_unknown_fields=True):
    claim: list[Claim] = []


def claims_of(text: str, place: Path | str) -> list[Claim]:
    """The claims of a file's text. Raises UsageError, naming its place, where they are none."""
    try:
        claims = msgspec.convert(toml.parsed(text), _File).claim
    except (ValueError, RecursionError) as error:
        raise UsageError(one_line(f"The {FILE} of {place} holds no claims ({error}).")) from None
    names = [claim.name for claim in claims]
    for claim in claims:
        why = "is there twice" if names.count(claim.name) > 1 else _wrong(claim)
        if why:
            raise UsageError(f"The claim {claim.name} of {place} {why}.")
    return claims


def _wrong(claim: Claim) -> str | None:
    if not all(isinstance(side.get("method"), str) for side in (claim.first, claim.second)):
        return "does not name the methods of first and second"
    if (claim.quantity == "accuracy") != bool(claim.at):
        return "takes the ratios `at` with the quantity accuracy, and only with it"
    if (claim.quantity == "compression") != (claim.tolerance is not None):
        return "takes a tolerance with the quantity compression, and only with it"
    if claim.is_ratio and claim.smallest <= 1:
        return "compares by a factor, so that its smallest effect must be above 1"
    return None


def read(folder: Path) -> str:
    """The text of a results folder's file of claims, "" without one. Raises UsageError if it cannot be read."""
    path = folder / FILE
    try:
        return files.content(path, MOST).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}).") from None
