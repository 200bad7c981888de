"""Networks as files, under the name that the README gives: see ``dwfbench.deploy.export``."""

from dwfbench.deploy.export import export

__all__ = ["export"]
