"""The contract of methods, under the name that plug-ins import: see ``dwfbench.methods.contract``."""

from dwfbench.methods.contract import Method, Moment, Start, create, option
from dwfbench.methods.schedule import Phase

__all__ = ["Method", "Moment", "Phase", "Start", "create", "option"]
