"""The command that makes a paper's figure anew: it calls run, compare, plot and claims, and shows what it calls."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dwfbench.cli.app import INTERRUPTED, OK, SETTINGS, SOME_FAILED, USAGE, guarded, message
from dwfbench.cli.help import Command, examples
from dwfbench.cli.misuse import Misused
from dwfbench.cli.options import FREE
from dwfbench.cli.sources import Debug
from dwfbench.experiments import reproduce as published

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(**SETTINGS)


@app.command(
    "reproduce",
    cls=Command,
    context_settings=FREE,
    epilog=examples(
        "dwfbench reproduce lenet-300-100-mnist --dry-run",
        "dwfbench reproduce lenet-300-100-mnist --seeds 1 --jobs 2",
        note="All other flags are those of `dwfbench run`: --device, --tuned, --lr, ...",
    ),
)
@guarded
def reproduce(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="FIGURE", help="one of `dwfbench list figures`")],
    results: Annotated[Path | None, typer.Option(help="folder of the run records [default: results/FIGURE]")] = None,
    method: Annotated[str | None, typer.Option(help="other methods than the figure's")] = None,
    compression: Annotated[str | None, typer.Option(help="other ratios than the figure's")] = None,
    epochs: Annotated[int | None, typer.Option(help="another budget than the figure's", min=1)] = None,
    seeds: Annotated[int | None, typer.Option(help="number of seeds, other than the figure's", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be trained, and the time")] = False,
    debug: Debug = False,
) -> int:
    """Train a paper's figure, compare, draw it over published numbers, and say which claims it decides.

    What is stored is not trained again: the same command goes on where the last one stopped.
    """
    figure = published.figure(name)
    figure = replace(
        figure,
        method=method or figure.method,
        compression=compression or figure.compression,
        epochs=epochs or figure.epochs,
        seeds=seeds or figure.seeds,
    )
    folder = results or Path("results") / name
    message(f"{figure.title} ({figure.source}). {figure.note}")
    training = figure.training(folder, context.args)
    outcome = called([*training, "--dry-run"] if dry_run else training)
    if dry_run:
        for words in figure.reading(folder):
            message(f"Then: dwfbench {shlex.join(words)}")
    if dry_run or outcome not in (OK, SOME_FAILED):
        return outcome
    for words in figure.reading(folder):
        code = called(words)
        if code in (USAGE, INTERRUPTED):
            return code

    import dwfbench

    for sentence in decided(dwfbench.open(folder).claims()):
        message(sentence)
    return outcome


def called(words: list[str]) -> int:
    """Exit code of a command of dwfbench, which is shown and called in this process."""
    from dwfbench.cli.app import app as root

    message(f"\n$ dwfbench {shlex.join(words)}")
    try:
        return root(words, standalone_mode=False) or OK
    except Misused as misuse:
        misuse.show()
        return misuse.exit_code


def decided(verdicts: "pd.DataFrame") -> list[str]:
    """Which claims the runs decide, and which they do not, as sentences."""
    names = verdicts.groupby("verdict")["claim"].agg(lambda claims: ", ".join(dict.fromkeys(claims)))
    decided = [f"{names[verdict]} ({verdict})" for verdict in ("supported", "contradicted") if verdict in names]
    undecided = [f"{names[verdict]} ({verdict})" for verdict in ("undecided", "not run") if verdict in names]
    return [
        f"Claims that this decides: {'; '.join(decided) or 'none'}.",
        f"Claims that it does not decide: {'; '.join(undecided) or 'none'}.",
    ]
