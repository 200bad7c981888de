"""The contract of methods, under the name that plug-ins import: see ``dwfbench.methods.contract``."""

from dwfbench.dwf.parametrization import Parametrization
from dwfbench.methods.contract import Method, Moment, Pruner, option
from dwfbench.methods.registry import create
from dwfbench.methods.stage import Stage

__all__ = ["Method", "Moment", "Parametrization", "Pruner", "Stage", "create", "option"]
