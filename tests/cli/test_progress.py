"""The lines of progress where there is no terminal."""

from types import SimpleNamespace

from dwfbench.cli import progress


def test_the_time_left_is_judged_by_the_epochs_after_the_first(monkeypatch, capsys):
    """The first of ten epochs takes 100 seconds, most of which the compiler needs, and each of the others 40."""
    now = [1000.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with progress.Reporter() as reporter:
        reporter.curve("snip", [None], 1, 10)
        reporter.compiling("snip")
        for epoch, moment in ((1, 1100.0), (2, 1140.0), (3, 1180.0)):
            now[0] = moment
            row = {"epoch": epoch, "train_loss": 0.5, "val_accuracy": 0.9, "compression": 2.0}
            reporter.epoch("snip", 1, row, 1, {})
    assert capsys.readouterr().err.splitlines() == [
        "snip: 0/1 runs, epoch 1/10, loss 0.5, val 90.0 %, CR 2, 0:01:40 gone",
        "snip: 0/1 runs, epoch 2/10, loss 0.5, val 90.0 %, CR 2, 0:02:20 gone, about 0:05:20 left",
        "snip: 0/1 runs, epoch 3/10, loss 0.5, val 90.0 %, CR 2, 0:03:00 gone, about 0:04:40 left",
    ]


def test_the_score_of_the_data_is_called_by_its_name(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", -1)
    with progress.Reporter("r2") as reporter:
        reporter.curve("snip", [None], 1, 10)
        reporter.epoch("snip", 1, {"epoch": 1, "train_loss": None, "val_accuracy": 0.5, "compression": None}, 1, {})
    assert capsys.readouterr().err.startswith("snip: 0/1 runs, epoch 1/10, val r2 50.0 %, ")
