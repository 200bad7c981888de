"""What the page judges: verdicts on claims, each in a line with its reasons, and cautions by the curve they concern."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from dwfbench.analysis.cautions import by_curve
from dwfbench.analysis.claims import VERDICTS
from dwfbench.show import verdicts


def listed(judged: pd.DataFrame) -> list[dict[str, Any]]:
    """Of a frame of `claims.verdicts` a line a verdict, those that decide first: verdict, sentence, effect, where (data
    set, model and budget; "" where all have the same), and details.
    """
    header, *cells = verdicts.cells(judged)
    several = len(judged.dropna(subset="epochs").drop_duplicates(["dataset", "model", "epochs"])) > 1
    lines = []
    for row, texts in zip(judged.to_dict("records"), cells, strict=True):
        cell = dict(zip(header, texts, strict=True))
        has_panel = several and not pd.isna(row["epochs"])
        lines.append(
            {
                "verdict": row["verdict"],
                "sentence": row["sentence"],
                "effect": "" if cell["Effect"] == "-" else cell["Effect"],
                "where": f"{row['dataset']}/{row['model']}, {row['epochs']} epochs" if has_panel else "",
                "details": _details(row, cell),
            }
        )
    return sorted(lines, key=lambda line: VERDICTS.index(line["verdict"]))


def _details(row: dict[str, Any], cell: dict[str, str]) -> list[str]:
    tested = f"{cell['First']} against {cell['Second']}: {cell['Measure']}, expected {cell['Expected']}"
    needed = "" if cell["To decide"] == "-" else f", to decide {cell['To decide']}"
    seeds = f"; {cell['Seeds']} pairs of seeds{needed}" if row["n"] else ""
    return [
        f"{tested}{seeds}." if cell["First"] != "-" else f"{cell['Measure']}, expected {cell['Expected']}.",
        *([f"{row['reason']}."] if row["reason"] else []),
        *([f"Runs {', '.join(row['ids'])}."] if row["ids"] else []),
        f"{row['claim']}; {row['source']}.",
    ]


def cautions(lines: Iterable[str]) -> dict[str, Any]:
    """Cautions without repetitions: general ones, and those of each curve, by its label, and its data set and model
    where there are several.
    """
    general, words_by_curve = by_curve(dict.fromkeys(lines))
    several = len({panel for panel, _ in words_by_curve}) > 1
    return {
        "general": list(dict.fromkeys(general)),
        "curves": [
            (f"{label} ({panel})" if several else label, list(dict.fromkeys(words)))
            for (panel, label), words in words_by_curve.items()
        ],
    }
