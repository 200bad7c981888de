"""Dense training: nothing is pruned. The reference for every tolerance, and the Method contract's empty case."""

from dataclasses import dataclass
from typing import ClassVar

from dwfbench.methods.contract import Method


@dataclass(frozen=True)
class Dense(Method):
    """No masks, no penalty but the shared weight decay."""

    name: ClassVar[str] = "dense"
    summary: ClassVar[str] = "plain training, the reference"
    source: ClassVar[str] = "-"
    look: ClassVar[tuple] = ("#777777", "")
