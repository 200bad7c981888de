"""The command that shows one run: what came of it, its settings, history, curve and layers, and how to repeat it."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from dwfbench.base.screen import table, wrapped
from dwfbench.base.streams import answer, say, width
from dwfbench.base.text import knob, short
from dwfbench.cli.app import OK, SETTINGS, guarded
from dwfbench.cli.help import Command, examples
from dwfbench.cli.sources import RESULTS, Debug, ResultSets, TableOrJson, records_of, selected
from dwfbench.cli.tables import curve_table
from dwfbench.cli.values import one_of
from dwfbench.runs import repeat
from dwfbench.runs.curve import curve_key
from dwfbench.runs.record import SETTINGS as FIELDS
from dwfbench.runs.record import Layer, Record, content_of
from dwfbench.runs.selection import whole_id

app = typer.Typer(**SETTINGS)

ROWS = 12
"""Rows of a history that are shown: the first, the last, and others evenly between."""


@app.command("show", cls=Command, epilog=examples("dwfbench show 1a2b3c", "dwfbench show 1a2b3c --results theirs.zip"))
@guarded
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a run's id, or as much of it as is unique, or its folder")],
    results: ResultSets = RESULTS,
    format: TableOrJson = "table",
    debug: Debug = False,
) -> int:
    """Show a run: what came of it, settings, history, curve, layers, and the command that repeats it."""
    one_of(format, "format", ("table", "json"))
    if (Path(run) / "run.json").is_file():
        results, run = [str(Path(run).resolve().parents[1])], Path(run).resolve().name
    selection = selected({"results": results})
    records = records_of(selection, ["history"])
    run_id = whole_id(run, (record.id for record in records), selection.places)
    record = next(record for record in records if record.id == run_id)
    if format == "json":
        rows = msgspec.to_builtins(record.history or [])
        content = content_of(record) | {"history": rows, "command": repeat.command(record)}
        answer(json.dumps(content, indent=2, ensure_ascii=False))
        return OK
    curve = [candidate for candidate in records if curve_key(candidate) == curve_key(record)]
    turned = f", {knob(record.knob, record.knob_value)}" if record.knob else ""
    say(f"Run {record.id} in {selection.places}: {record.label}{turned}, seed {record.spec.seed}.")
    for heading, text in {
        "Outcome": pairs(outcome(record)),
        "Settings": pairs(settings(record)),
        "History": history(record),
        f"Its curve, {len(curve)} run{'s' * (len(curve) != 1)}": curve_table(curve),
        "Layers": layers(record.layers),
        "To train it again (with --force where it is stored)": repeat.lines(repeat.command(record), width()),
    }.items():
        if text:
            answer(f"\n{heading}\n\n{text}")
    return OK


def outcome(record: Record) -> dict[str, str]:
    """What came of a run, in words."""
    origin = record.provenance
    facts: dict[str, Any] = {"status": record.status, "error": record.error}
    if record.compression is not None:
        facts |= {
            f"test {record.judged_by}": percent(record.test_accuracy),
            f"validation {record.judged_by}": percent(record.val_accuracy),
            "compression": short(record.compression, 4) + of(record.nnz, record.numel, " ({} weights are left)"),
            "of all parameters": ratio(record.compression_all),
            "of live paths": "no path is left" if record.connected is False else ratio(record.effective_compression),
            "multiplications": of(record.macs_sparse, record.macs_dense, "{}"),
        }
    versions = [f"{name} {version}" for name, version in origin.versions.items() if name in ("dwfbench", "torch")]
    threads = f"{origin.threads} thread{'s' * (origin.threads != 1)}" if origin.threads else None
    facts |= {
        "trained": f"{record.seconds:.1f} s{f', ended {origin.ended}' if origin.ended else ''}",
        "on": ", ".join(filter(None, [origin.device_name, threads, "compiled" if origin.compiled else None])),
        "tags": ", ".join(origin.tags),
        "note": origin.note,
        "remarks": "; ".join(record.notes),
        "with": ", ".join([*versions, *([f"commit {origin.git_commit[:12]}"] if origin.git_commit else [])]),
    }
    return {name: value for name, value in facts.items() if value}


def of(part: int | None, whole: int | None, words: str) -> str:
    """A count of a whole in words; nothing where a record of an earlier version lacks either."""
    return "" if part is None or whole is None else words.format(f"{part:,} of {whole:,}")


def settings(record: Record) -> dict[str, str]:
    """The settings and options of a run by name."""
    values = {name: getattr(record.spec, name) for name in FIELDS if name != "options"}
    values = {"method": values.pop("method"), **record.spec.options, **values, **record.spec.others}
    words = {"None": "none", "True": "yes", "False": "no"}
    return {
        name.replace("_", " "): words.get(str(value), str(value))
        for name, value in values.items()
        if value is not None or name not in ("strength", "compression")
    }


def pairs(texts: dict[str, str]) -> str:
    """A line for each name, its value wrapped beside it."""
    size, columns = max(map(len, texts)) + 4, width()
    lines = []
    for name, value in texts.items():
        first_line, *other_lines = wrapped(value, None if columns is None else columns - size).splitlines() or [""]
        lines += [f"  {name:<{size - 2}}{first_line}", *(" " * size + line for line in other_lines)]
    return "\n".join(lines)


def history(record: Record) -> str:
    """Some rows of the history of a run."""
    rows = record.history or []
    step = max(1, (len(rows) - 1) / (ROWS - 1)) if len(rows) > 1 else 1
    indices = sorted({round(step * number) for number in range(min(ROWS, len(rows)))})
    table_rows = [["epoch", "train loss", "val %", "CR", "misalignment", "learning rate"]]
    for row in (rows[index] for index in indices):
        cells = (row.train_loss, row.val_accuracy and 100 * row.val_accuracy, row.compression, row.misalignment, row.lr)
        table_rows.append([str(row.epoch), *(short(cell, 4) for cell in cells)])
    return table(table_rows, (), columns=width()) if rows else ""


def layers(prunable: list[Layer]) -> str:
    """The prunable layers of a run, and how much is left of each."""
    rows = [["layer", "shape", "weights", "left", "%"]]
    for layer in prunable:
        share = f"{100 * layer.nnz / layer.numel:.2f}"
        rows.append([layer.name, "x".join(map(str, layer.shape)), f"{layer.numel:,}", f"{layer.nnz:,}", share])
    return table(rows, ("layer", "shape"), columns=width()) if prunable else ""


def percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.2f} %"


def ratio(value: float | None) -> str | None:
    return None if value is None else short(value, 4)
