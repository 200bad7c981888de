"""The commands for a network of one's own: suggest."""

from typing import Any

import typer

from dwfbench.base.streams import answer
from dwfbench.cli import options
from dwfbench.cli.app import OK, SETTINGS, guarded
from dwfbench.cli.help import Command, examples
from dwfbench.cli.sources import Debug
from dwfbench.runs import spec

app = typer.Typer(**SETTINGS)

FREE = {"allow_extra_args": True, "ignore_unknown_options": True}


SHARED = {name: flag for name, flag in options.flags().items() if name in ("recipe", "data_dir", *spec.settings())}
"""Flags of ``run`` that say a network, its data and its training, with a flag for every setting."""

DEFAULTS = {name: default for name, (_, default) in options.flags().items()}
"""What the others of its flags are where they are not offered."""


@app.command(
    "suggest",
    cls=Command,
    context_settings=FREE,
    epilog=examples(
        "dwfbench suggest --model lenet-5 --dataset fashion-mnist --depth 2,3",
        "dwfbench suggest --model net.py:net --dataset images/ --epochs 20 --lr 0.05",
    ),
)
@guarded
@options.with_flags(SHARED)
def suggest(context: typer.Context, *, debug: Debug = False, **given: Any) -> int:
    """Strengths, least steps and rates for DWF from the network's own weights, by arithmetic: nothing is trained.

    --depth and DWF's other options are flags, too, and may be lists. The library has the same as dwfbench.suggest.
    """
    asked = options.read({**DEFAULTS, **given, "method": "dwf"}, context.args)

    from dwfbench.experiments import advise

    answer("\n\n".join(str(advise.suggestion(request, asked.dataset)) for request in asked.requests))
    return OK
