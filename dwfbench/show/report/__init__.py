"""Results as one HTML file: figures, tables, cautions, failures, provenance and commands.

The file needs no network and no other file, and opens from disk. Equal records give equal bytes: it holds no time of
its own. Whatever comes from records (names, labels, errors, commands) is text to the page, never markup.
Percentages, CRs and seconds are as in ``analysis.curves``.
"""

from dwfbench.show.report.page import render, write

__all__ = ["render", "write"]
