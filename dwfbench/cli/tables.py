"""The tables with which commands end."""

from collections import Counter

from dwfbench.base.screen import table, wrapped
from dwfbench.base.streams import width
from dwfbench.base.text import ACCURACY, knob, shared_score, short
from dwfbench.runs.curve import curve_key
from dwfbench.runs.record import Record, Study
from dwfbench.show import studies

WHERE = ("dataset", "model", "epochs")
"""Settings by which runs of one label are told apart before all others."""
DECAY = "Decay budget: strength x sum of learning rates / (1 - momentum)."


def verification_table(checks: list) -> str:
    rows = [["method", "seed", "CR", "again", "test %", "again", "allowed", "", "id"]]
    for check in checks:
        stored, rerun = check.record, check.again
        ok = rerun.status == "ok"
        rows.append(
            [stored.label, str(stored.spec.seed), short(stored.compression, 4),
             short(rerun.compression, 4) if ok else "-", f"{100 * stored.test_accuracy:.2f}",
             f"{100 * rerun.test_accuracy:.2f}" if ok else rerun.status, f"±{check.points:.2f}, x{check.ratio:.2f}",
             "agrees" if check.agrees else "DIFFERS", stored.id]
        )  # fmt: skip
    return table(rows, ("method", "", "id"), ("method", "seed"), width())


def study_table(tuning: list[Study]) -> str:
    """The trials of studies, and what won."""
    return table(studies.rows(tuning), ("method", "trial"), ("method", "runs", "bad"), width())


def plan_table(curves: list, store, force: bool) -> str:
    rows = [["id", "method", "knob", "seed", "epochs", "lr", "decay budget", "stored"]]
    for curve in curves:
        for spec in curve.specs:
            budget = curve.budget(spec)
            stored = store.status(spec.id) or "no"
            rows.append(
                [spec.id, curve.method.label(), knob(curve.method.knob, spec.knob), str(spec.seed), str(spec.epochs),
                 f"{spec.lr:g}", "-" if budget is None else f"{budget:.1f}",
                 f"{stored}, again" if force and stored == "ok" else stored]
            )  # fmt: skip
    count = len(rows) - 1
    text = table(rows, ("id", "method", "knob", "stored"), ("method", "seed", "epochs", "lr", "stored"), width())
    decay = "" if all(row[6] == "-" for row in rows[1:]) else f" {DECAY}"
    return f"{text}\n\n{count} run{'s' * (count != 1)}.{wrapped(decay, width())}"


def plan_sentence(curves: list) -> str:
    """What is about to be trained, or is stored already: runs, epochs, curves; and how far a search may go."""
    runs = [run for curve in curves for run in curve.specs]
    epochs = sorted({run.epochs for run in runs})
    spent = f"{epochs[0]}{f' to {epochs[-1]}' if len(epochs) > 1 else ''} epoch{'s' * (epochs != [1])}"
    setup = " on ".join(
        ", ".join(dict.fromkeys(getattr(run, name).partition("@")[0] for run in runs)) for name in ("model", "dataset")
    )
    by_label = Counter(curve.method.label() for curve in curves for _ in curve.specs)
    listed = ", ".join(f"{label} ({count})" for label, count in by_label.items())
    count = f"{len(runs):,} run{'s' * (len(runs) != 1)}"
    searched = [curve for curve in curves if curve.targets]
    more = "strengths" if all(curve.method.knob == "strength" for curve in searched) else "runs"
    most = max((curve.max_runs for curve in searched), default=0)
    growth = f" The search may grow to {most} {more} of each seed." if searched else ""
    return f"Plan: {count} of {spent}, {setup}: {listed}.{growth}"


def curve_table(records: list[Record]) -> str:
    """What a run ends with: every run of the curves asked for, failed ones too, in the order of the knob; its status
    is why it is no result if it ended well and is none. Data set, model and epochs are said where runs differ in them.
    """
    from dwfbench.analysis.soundness import unsound

    reasons = unsound(records)
    knobs = {record.knob for record in records if record.knob}
    turned = "knob" if len(knobs) != 1 else "target" if knobs == {"compression"} else "strength"
    score = shared_score(record.judged_by for record in records if record.status == "ok")
    test, val = (f"{part} %" if score == ACCURACY else f"{part} {score} %" for part in ("test", "val"))
    settings = [name for name in WHERE if len({getattr(record.spec, name) for record in records}) > 1]
    labels = labels_of(records)
    rows = [["id", "method", turned, "seed", "CR", "effective CR", test, val, "s", "status", *settings]]

    def place(record: Record) -> tuple:
        panel = (getattr(record.spec, name) for name in settings)
        return *panel, labels[record.id], record.spec.seed, record.knob_value or 0

    for record in sorted(records, key=place):
        turned_to = short(record.knob_value, 4)
        rows.append(
            [record.id, labels[record.id], f"CR {turned_to}" if record.knob == "compression" else turned_to,
             str(record.spec.seed), short(record.compression, 4), short(record.effective_compression, 4),
             percent_of(record.test_accuracy), percent_of(record.val_accuracy), f"{record.seconds:.1f}",
             reasons.get(record.id, record.status), *(str(getattr(record.spec, name)) for name in settings)]
        )  # fmt: skip
    if all(row[4] == row[5] for row in rows[1:]):  # as a rule: few weights are on no path
        rows = [[*row[:5], *row[6:]] for row in rows]
    return table(rows, ("id", "method", "knob", "status", *WHERE), ("method", turned, "seed", "status"), width())


def labels_of(records: list[Record]) -> dict[str, str]:
    """A label for every run, by its id; where curves of one label differ, it has that in which they do."""
    labels = {record.id: record.label for record in records}
    curves = {curve_key(record) for record in records}
    panels = ([getattr(record.spec, name) for name in WHERE] for record in records)
    if len(curves) == len({(*panel, record.label) for panel, record in zip(panels, records, strict=True)}):
        return labels
    from dwfbench.analysis.frames import labelled  # which needs pandas

    frame = labelled(records)
    return labels | dict(zip(frame["id"], frame["label"], strict=True))


def export_table(manifest: dict) -> str:
    checks = {check["file"]: check for check in manifest["checks"]}
    rows = [["file", "bytes", "zlib", "largest difference", "test %"]]
    for file in manifest["files"]:
        check = checks.get(file["name"])
        percent = percent_of(check["test_accuracy"]) if check else "-"
        difference = f"{check['max_abs_difference']:.2g}" if check else "-"
        rows.append([file["name"], f"{file['bytes']:,}", f"{file['bytes_zlib']:,}", difference, percent])
    macs = ", ".join(f"{form} {count:,}" for form, count in manifest["macs"].items())
    parameters = ", ".join(f"{form} {count:,}" for form, count in manifest["parameters"].items())
    itself = (
        f"The network itself: {manifest['score']} {percent_of(manifest['test_accuracy'])} % on "
        f"{manifest['samples']:,} test samples. "
        f"MACs: {macs}. Parameters: {parameters}."
    )
    return f"{table(rows, ('file',), columns=width())}\n\n{wrapped(itself, width())}"


def percent_of(value: float | None) -> str:
    """A fraction in percent; a dash for none."""
    return "-" if value is None else f"{100 * value:.2f}"
