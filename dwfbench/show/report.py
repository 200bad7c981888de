"""One results folder as one HTML file: charts, tables, cautions, failures, provenance and commands.

The file needs no network and no other file, and opens from disk. Equal records give equal bytes: it holds no time of
its own. Whatever comes from records (names, labels, errors, commands) is text to the page, never markup.
Percentages, CRs and seconds are as in `curves`.
"""

import functools
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dwfbench import __version__
from dwfbench.analysis import curves
from dwfbench.analysis.frames import mean_layers
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.base.text import short
from dwfbench.runs.record import Origin, Provenance, Record, Study, Trial, Tuned
from dwfbench.runs.store import replace
from dwfbench.show import charts, figures, tables

MOST_STEPS = 10_000  # rows of the dynamics, which would otherwise outgrow the rest of the file
FEWEST_EPOCHS = 8  # of a run's dynamics, however many runs there are
ROUNDING = 1e-12  # a misalignment below this is rounding, as in `figures`
LAYER_LEGEND = 8  # more layers than these have a scale of colours instead of a legend
BEYOND = 1.15  # the ends of a CR axis lie this factor beyond the runs
PANEL_TITLES = [tables.TITLES[name] for name in curves.PANEL]


@dataclass(frozen=True)
class Selection:
    """What a report was asked to show: result sets; names of data sets, models and methods, None for all."""

    results: tuple[str, ...]
    dataset: list[str] | None = None
    model: list[str] | None = None
    method: list[str] | None = None
    threshold: float | None = None

    def words(self, threshold: bool = True) -> list[str]:
        """The flags that ask for the same again, with --threshold or without."""
        names = {"dataset": self.dataset, "model": self.model, "method": self.method}
        flags = [("results", text) for text in self.results]
        flags += [(flag, ",".join(found)) for flag, found in names.items() if found]
        if threshold and self.threshold is not None:
            flags.append(("threshold", f"{self.threshold:g}"))
        return [word for flag, value in flags for word in (f"--{flag}", value)]


def write(page: str, path: Path) -> None:
    """Write a page, wholly or not at all, parent folders included. Raises UsageError where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, page.encode("utf-8", "replace"))  # half a surrogate pair in a name is no reason to fail
    except OSError as error:
        raise UsageError(f"The report cannot be written to {path} ({error.strerror or error}).") from None


def render(results: ResultSet, selection: Selection) -> str:
    """The page about the runs of the selected methods.

    `results` are those of the selected data sets and models, all methods, recounted at the selected threshold, with
    their histories: labels and the dense reference come from all of them. Raises UsageError if no run is left to show.
    """
    selected = results.only(method=selection.method)
    shown, chosen = selected.runs, selected.records
    if shown.empty:
        raise UsageError("There is nothing to report: no finished run matches.")
    drawing = Drawing(selected)
    known = [study for study in _ordered(results.studies, drawing.styles) if _is_of(study, shown)]
    content = {
        "version": __version__,
        "selection": selection,
        "panels": [drawing.panel(f"{number}", *one) for number, one in enumerate(shown.groupby(curves.PANEL), 1)],
        "settings": _settings(shown, chosen, drawing.styles),
        "studies": [_study(study) for study in known],
        "cautions": curves.warnings(results.runs, results.failures),
        "comparison": _comparison(results, shown, selection.method),
        "comparison_caption": tables.compare_caption(),
        "runs": _runs(shown, chosen, drawing.styles),
        "failures": _failures(selected.failures),
        "provenance": _provenance(list(chosen.values())),
        "commands": [
            *_commands((study.provenance, "") for study in known),
            *_commands((record.provenance, record.provenance.started or "") for record in chosen.values()),
        ],
        "readers": _readers(selection, shown),
        "css": Markup(_file("report.css")),
        "scripts": [Markup(_file(name)) for name in ("tables.js", "charts.js")],
        "bundle": Markup(_bundle()),
        "points": Markup(_json(drawing.points)),
        "specs": Markup(_json(drawing.specs)),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file("report.html")).render(content) + "\n"


def _ordered(studies: Iterable[Study], labels: Iterable[str]) -> list[Study]:
    """The studies in the order of the legend; others follow."""
    places = {label: place for place, label in enumerate(labels)}
    return sorted(studies, key=lambda study: (places.get(study.label, len(places)), study.label))


def _file(name: str) -> str:
    return (files("dwfbench.show") / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, in the version that Altair writes for."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle: Any = vl_convert.javascript_bundle  # its annotations ask for the snippet, which is optional
    return bundle(vl_version=version).replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _json(content: object) -> str:
    """JSON in ASCII that no HTML parser takes for the end of its script element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


# --- charts -------------------------------------------------------------------------------------------------


@dataclass
class Drawing:
    """The charts of a page: `specs` and the tables `points` that they draw, by name, and what each panel needs of them.

    `results` are those to draw, labelled as among all.
    """

    results: ResultSet
    points: dict[str, dict] = field(default_factory=dict)
    specs: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.styles = figures.line_styles(self.results.runs)
        self.specs |= {name: charts.dynamics(name) for name in charts.QUANTITIES}
        layers = self.results.layers
        self.layers = mean_layers(layers[layers["method"] != "dense"])
        self.steps = _steps(self.results.history, self.results.runs)

    def panel(self, number: str, names: tuple[str, str], runs: pd.DataFrame) -> dict:
        """The charts of one data set and model, whose tables end in `-number`."""
        labels = set(runs["label"])
        entries = charts.legend({label: style for label, style in self.styles.items() if label in labels})
        return {
            "number": number,
            "title": ", ".join(names),
            "legend": entries,
            "below": self._accuracy(number, runs, entries),
            "layers": self._layers(number, _of(self.layers, names), list(self.styles)),
            "dynamics": self._dynamics(number, _of(self.steps, names), list(self.styles)),
        }

    def _accuracy(self, number: str, runs: pd.DataFrame, entries: list[dict]) -> int:
        """Adds a panel's chart of accuracy versus CR; how many of its runs lie below the axis."""
        dense, means = runs["method"] == "dense", curves.bands(runs)
        low, high = figures.accuracy_limits(runs, means)
        means = means[means["label"].isin(runs.loc[~dense, "label"])]
        runs = runs.assign(
            knob=[_knob(run) for run in runs.itertuples()],
            below=runs["accuracy"] < low,
            layers=[charts.layer_text(self.results.records[id_].layers) for id_ in runs["id"]],
        )
        columns = ["id", "label", "seed", "knob", "compression", "accuracy", "layers", "below"]
        self.points[f"runs-{number}"] = charts.table(runs, columns)
        self.points[f"means-{number}"] = charts.table(means, ["label", "compression", "accuracy", "lower", "upper"])
        references = runs[dense].groupby("label", as_index=False)["accuracy"].mean()
        self.points[f"dense-{number}"] = charts.table(references, ["label", "accuracy"])
        crs = _cr_range(runs.loc[~dense, "compression"])
        self.specs[f"accuracy-{number}"] = charts.accuracy(entries, crs, (float(low), float(high)))
        return int(runs["below"].sum())

    def _layers(self, number: str, means: pd.DataFrame, order: list[str]) -> dict | None:
        """Adds a panel's chart of the densities of layers; its labels and legend, None if there are none."""
        if means.empty:
            return None
        means = means.assign(density=100 * means["density"], layer=means["layer"].str.removesuffix(".weight"))
        layers = list(means.sort_values("position").drop_duplicates("layer")["layer"])
        colours = charts.scale("viridis", len(layers))
        lowest = means.loc[means["density"] > 0, "density"].min() / 1.5
        self.points[f"layers-{number}"] = charts.table(means, ["label", "layer", "compression", "density"])
        crs = _cr_range(means["compression"])
        self.specs[f"layers-{number}"] = charts.layers(layers, colours, crs, float(min(lowest, 50)))
        return {
            "labels": [label for label in order if label in set(means["label"])],
            "legend": list(zip(layers, colours, strict=True)),
            "listed": len(layers) <= LAYER_LEGEND,
            "emptied": bool((means["density"] == 0).any()),
        }

    def _dynamics(self, number: str, steps: pd.DataFrame, order: list[str]) -> dict | None:
        """Adds a panel's table of histories; its curves, each with its quantities, None if there are none."""
        if steps.empty:
            return None
        columns = ["label", "id", "knob", "shade", "epoch", *charts.QUANTITIES]
        self.points[f"steps-{number}"] = charts.table(steps, columns)
        quantities = {name: title for name, title in charts.QUANTITIES.items() if steps[name].notna().any()}
        of_label = dict(list(steps.groupby("label")))
        return {
            "colours": charts.scale("plasma", charts.SHADES),
            "curves": [
                {
                    "label": label,
                    "seed": int(of_label[label]["seed"].iloc[0]),
                    "knob": _knob_range(of_label[label]),
                    "charts": [
                        {"name": name, "title": title, "known": bool(of_label[label][name].notna().any())}
                        for name, title in quantities.items()
                    ],
                }
                for label in order
                if label in of_label
            ],
        }


def _steps(histories: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """What the page shows of the histories: of curves turned by a strength (of all of a data set and model, if there
    are none) the first seed, and of each run so many epochs, both ends included, that all have about MOST_STEPS rows.

    Columns beside those of `dynamics.histories`: id, knob ("strength 0.001") and shade (see `charts.dynamics`).
    """
    turned = shown["knob"] == "strength"
    runs = shown[turned | ~turned.groupby([shown[name] for name in curves.PANEL]).transform("any")]
    runs = runs[runs["seed"] == runs.groupby(curves.KEYS)["seed"].transform("min")]
    by = [*curves.KEYS, "seed", "knob_value"]
    steps = histories.drop(columns="knob").merge(runs[["id", "knob", *by]], on=by)
    most = max(MOST_STEPS // max(len(runs), 1), FEWEST_EPOCHS)
    kept = [rows.iloc[_spread(len(rows), most)] for _, rows in steps.groupby("id", sort=False)]
    steps = pd.concat(kept) if kept else steps
    misalignment = steps["misalignment"].where(steps["misalignment"] > ROUNDING)
    shade = [_shades(rows["knob_value"]) for _, rows in steps.groupby(curves.KEYS)]
    return steps.assign(
        misalignment=misalignment,
        shade=pd.concat(shade) if shade else pd.Series(dtype=int),
        knob=[_knob(step) for step in steps.itertuples()],
    ).reset_index(drop=True)


def _spread(number: int, most: int) -> list[int]:
    """At most `most` of the positions below `number`, evenly spread, with both ends."""
    return sorted(set(np.linspace(0, number - 1, min(number, most)).round().astype(int).tolist()))


def _shades(knobs: pd.Series) -> pd.Series:
    """Positions of knob values on the scale of colours, from 0 to SHADES - 1 in their log; the middle without one."""
    middle = pd.Series(charts.SHADES // 2, index=knobs.index)
    if not (knobs > 0).all() or knobs.nunique() < 2:
        return middle
    logs = np.log(knobs)
    return ((logs - logs.min()) / (logs.max() - logs.min()) * (charts.SHADES - 1)).round().astype(int)


def _of(frame: pd.DataFrame, panel: tuple[str, str]) -> pd.DataFrame:
    return frame[(frame[curves.PANEL] == list(panel)).all(axis=1)]


def _cr_range(compressions: pd.Series) -> tuple[float, float]:
    """The ends of a CR axis, also around a single CR and around none."""
    if compressions.empty:
        return 1.0, 10.0
    return float(compressions.min() / BEYOND), float(compressions.max() * BEYOND)


def _knob(run: Any) -> str:
    return f"{run.knob} {short(run.knob_value, 4)}" if isinstance(run.knob, str) else "-"


def _knob_range(steps: pd.DataFrame) -> tuple[str, str] | None:
    """The texts at the ends of the scale of colours; None where a curve has a single one."""
    if steps["shade"].nunique() < 2:
        return None
    ordered = steps.sort_values("knob_value")["knob"]
    return ordered.iloc[0], ordered.iloc[-1]


# --- tables -------------------------------------------------------------------------------------------------
#
# A grid is {"columns": [{"name", "number"}], "rows": [{"group", "cells": [(text, sort key or None)]}]}: the page sorts
# by the key if there is one (an empty one goes last), and can show the rows of one group only.


def _grid(columns: Sequence[str], rows: Sequence[tuple[str, list]], words: Iterable[str]) -> dict:
    """A grid of rows (group, cells), a cell a text or (text, number); the columns `words` are flush left.

    Data set and model have no columns where all rows agree in them: the page's head names them.
    """

    def differs(place: int) -> bool:
        return columns[place] not in PANEL_TITLES or len({row[place] for _, row in rows}) > 1

    kept = [place for place in range(len(columns)) if differs(place)]
    return {
        "columns": [{"name": columns[place], "number": columns[place] not in set(words)} for place in kept],
        "rows": [{"group": group, "cells": [_cell(row[place]) for place in kept]} for group, row in rows],
    }


def _cell(content: str | tuple) -> dict:
    if isinstance(content, str):
        return {"text": content, "key": None}
    text, number = content
    return {"text": text, "key": "" if number is None or pd.isna(number) else f"{number:.10g}"}


def _number(value: Any, form: str | None = None) -> tuple[str, object]:
    """Text and value of a cell; without a format, four significant digits."""
    if value is None or pd.isna(value):
        return "-", None
    return (short(value, 4) if form is None else format(value, form)), value


def _comparison(results: ResultSet, shown: pd.DataFrame, methods: list[str] | None) -> dict:
    table = tables.compare(results, method=methods)
    header, *body = tables.cells(table)
    method = shown.drop_duplicates("label").set_index("label")["method"]
    names = [name for name in table.columns if not name.endswith(tables.BESIDE)]
    rows = []
    for texts, row in zip(body, table.to_dict("records"), strict=True):
        pairs = zip(names, texts, strict=True)
        cells = [text if name in tables.LEFT else (text, row[name]) for name, text in pairs]
        rows.append((method[row["Method"]], cells))
    return _grid(header, rows, tables.LEFT)


def _runs(shown: pd.DataFrame, by_id: dict[str, Record], styles: dict[str, dict]) -> dict:
    """Every finished run, in the order of the legend, seeds and knobs."""
    places = {label: place for place, label in enumerate(styles)}
    ordered = shown.assign(place=shown["label"].map(places)).sort_values([*curves.PANEL, "place", "seed", "knob_value"])
    columns = [*PANEL_TITLES, "Method", "Seed", "Knob", "CR", "Effective CR", "Test %", "Val %", "Dense-equivalent %"]
    columns += ["Seconds", "Connected", "Id"]
    rows = []
    for run in ordered.itertuples():
        before = by_id[run.id].dense_equivalent_accuracy
        cells = [
            run.dataset,
            run.model,
            run.label,
            _number(run.seed, "d"),
            (_knob(run), run.knob_value),
            _number(run.compression),
            _number(run.effective_compression),
            _number(run.accuracy, ".2f"),
            _number(run.val_accuracy, ".2f"),
            _number(None if before is None else 100 * before, ".2f"),
            _number(run.seconds, ".1f"),
            {True: "yes", False: "no"}.get(run.connected, "-"),
            run.id,
        ]
        rows.append((run.method, cells))
    return _grid(columns, rows, ("Dataset", "Model", "Method", "Connected", "Id"))


def _failures(failed: pd.DataFrame) -> dict | None:
    """Every run without a result, None if there is none."""
    if failed.empty:
        return None
    columns = ["Dataset", "Model", "Method", "Seed", "Knob", "Status", "Error", "Id"]
    rows = []
    for run in failed.sort_values([*curves.PANEL, "label", "seed", "knob_value", "id"]).itertuples():
        error = str(run.error) if pd.notna(run.error) else _no_error(run.status)
        knob = (_knob(run), run.knob_value)
        cells = [run.dataset, run.model, run.label, _number(run.seed, "d"), knob, run.status, error, run.id]
        rows.append((run.method, cells))
    return _grid(columns, rows, ("Dataset", "Model", "Method", "Status", "Error", "Id"))


def _no_error(status: str) -> str:
    return {
        "emptied": "no weight is left at this threshold",
        "ok": "no finite accuracy or compression was recorded",
    }.get(status, "-")


def _settings(shown: pd.DataFrame, by_id: dict[str, Record], styles: dict[str, dict]) -> dict:
    """How each curve was trained; several values of a cell are listed."""
    rows = []
    for (dataset, model), panel in shown.groupby(curves.PANEL):
        for label in (label for label in styles if label in set(panel["label"])):
            runs = panel[panel["label"] == label]
            records = [by_id[id_] for id_ in runs["id"]]

            def spec(name: str, records: list[Record] = records) -> str:
                return _listed(getattr(record.spec, name) for record in records)

            cells = [dataset, model, label, _number(len(runs), "d"), _listed(runs["seed"]), spec("epochs")]
            cells += [spec("batch_size"), spec("lr"), _tuned(records), spec("precision")]
            rows.append((runs["method"].iloc[0], cells))
    columns = ["Dataset", "Model", "Method", "Runs", "Seeds", "Epochs", "Batch", "Learning rate", "Tuned", "Precision"]
    return _grid(columns, rows, [name for name in columns if name != "Runs"])


def _tuned(records: list[Record]) -> str:
    """Which study chose the settings of a curve's runs."""
    return _listed(_tuning(record.provenance.tuned) for record in records)


def _tuning(tuned: Tuned | None) -> str:
    if tuned is None:
        return "no"
    reached = "" if tuned.objective is None else f", objective {100 * tuned.objective:.2f} %"
    return f"study {tuned.study}, {tuned.trials} trials{reached}"


def _listed(values: Iterable[object]) -> str:
    """The different values, numbers in their order, then words."""
    different = {value for value in values if value is not None}
    numbers = sorted(value for value in different if isinstance(value, (int, float, np.integer)))
    words = sorted(str(value) for value in different - set(numbers))
    return ", ".join([*(f"{value:g}" for value in numbers), *words]) or "-"


def _is_of(study: Study, shown: pd.DataFrame) -> bool:
    names = [*curves.PANEL, "method"]
    return bool((shown[names] == [getattr(study, name) for name in names]).all(axis=1).any())


def _study(study: Study) -> dict:
    """A tuning study as a heading, a sentence and a grid of its trials."""
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.values))
    rows = [(study.method, _trial(number, trial, names, study.best)) for number, trial in enumerate(study.trials)]
    return {
        "title": f"{study.label} ({study.dataset}, {study.model})",
        "id": study.id,
        "objective": study.objective,
        "grid": _grid(["Trial", *names, "Objective %", "Runs", "Bad runs", "Chosen"], rows, ["Chosen"]),
    }


def _trial(number: int, trial: Trial, names: list[str], best: int) -> list:
    percent = None if trial.value is None else 100 * trial.value
    values = [_value(trial.values.get(name)) for name in names]
    chosen = "yes" if number == best else ""
    return [f"{number + 1}", *values, _number(percent, ".2f"), f"{len(trial.runs)}", _value(trial.bad), chosen]


def _value(value: object) -> str | tuple:
    return (f"{value:.4g}", value) if isinstance(value, (int, float)) else str("-" if value is None else value)


# --- provenance and commands ----------------------------------------------------------------------------------


def _provenance(records: list[Record]) -> list[tuple[str, list[str]]]:
    """What the runs were made with: (name, values), each value with its number of runs if there are several."""
    found = [record.provenance for record in records]
    packages = dict.fromkeys(name for one in found for name in one.versions)
    rows: dict[str, list] = {f"{name} version": [one.versions.get(name) for one in found] for name in packages}
    rows["git commit"] = [_commit(one) for one in found]
    rows["device"] = [_joined(one.device, one.device_name) for one in found]
    names = {"threads": "threads", "lanes": "lanes", "compiled": "compiled step", "precision": "precision"}
    rows |= {title: [getattr(one, name) for one in found] for name, title in names.items()}
    for name in sorted({record.spec.dataset for record in records}):
        of_name = [record.provenance for record in records if record.spec.dataset == name]
        rows[f"checksum of {name}"] = [one.data_checksum for one in of_name]
    counted = [(title, _counted(values)) for title, values in rows.items()]
    starts, ends = [one.started for one in found if one.started], [one.ended for one in found if one.ended]
    times = [("first run started", starts and [min(starts)]), ("last run ended", ends and [max(ends)])]
    return [(title, values or ["not recorded"]) for title, values in [*counted, *times]]


def _commit(provenance: Provenance) -> str | None:
    commit = provenance.git_commit
    return f"{commit} (with uncommitted changes)" if commit and provenance.git_dirty else commit


def _joined(*parts: object) -> str | None:
    return ", ".join(str(part) for part in parts if part) or None


def _counted(values: Iterable[object]) -> list[str]:
    """The different values, the most frequent first, with their numbers of runs if there are several."""
    words = {True: "yes", False: "no"}
    counts = Counter(words[value] if isinstance(value, bool) else str(value) for value in values if value is not None)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) == 1:
        return [ordered[0][0]]
    return [f"{value} ({count} {'run' if count == 1 else 'runs'})" for value, count in ordered]


def _commands(origins: Iterable[tuple[Origin, str]]) -> list[str]:
    """The different commands that made runs or studies, each given with its time, quoted for a shell, the earliest
    first.
    """
    first: dict[str, str] = {}
    for origin, start in origins:
        if origin.argv:
            command = shlex.join(origin.argv)
            first[command] = min(first.get(command, start), start)
    return sorted(first, key=lambda command: (first[command], command))


def _readers(selection: Selection, shown: pd.DataFrame) -> list[str]:
    """The commands that show the runs again."""
    recounted, trained = selection.words(), selection.words(threshold=False)
    kinds = ["layers", "dynamics", *(["weights"] if (shown["knob"] == "strength").any() else [])]
    reading = [["compare", *recounted], ["plot", *recounted], *(["plot", kind, *trained] for kind in kinds)]
    return [shlex.join(["dwfbench", *words]) for words in [*reading, ["report", *recounted]]]
