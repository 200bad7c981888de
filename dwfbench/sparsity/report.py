"""All that is told of a sparse network, under the names of the run record; what cannot be told, and why."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from dwfbench.base.errors import UsageError, reason
from dwfbench.dwf.plain import computed, plain
from dwfbench.models.prunable import left_out, prunable
from dwfbench.sparsity.count import compression_ratio, count, macs
from dwfbench.sparsity.paths import path_report


def sparsity_report(
    model: nn.Module, input_shape: Sequence[int] | None = None, weights: Mapping[str, Tensor] | None = None
) -> dict:
    """Everything that is recorded of a sparse network, under the names of the run record.

    `weights` stands in for the model's own prunable weights (names as in `prunable`). `compression` is over
    the prunable weights; `compression_all` over all parameters, where the others (biases, normalisation)
    count as stored in full even where they happen to be zero. With `input_shape`, the shape of one sample
    without the batch axis, the report also has `connected`, `effective_compression`, `macs_dense` and
    `macs_sparse`; not for networks that take tokens. What cannot be told of a network is None, and `notes` say why, in
    a sentence each, and what it holds beside the prunable weights (`left_out`). Factors are reported as if they were
    collapsed now, and other weights that a layer computes (weight_norm, masks) by what they are in eval mode.
    """
    if any(map(computed, model.modules())):
        model = plain(model)
    weights = prunable(model) if weights is None else weights
    layers = count(weights)
    numel, nnz = (sum(layer[key] for layer in layers) for key in ("numel", "nnz"))
    unprunable = sum(p.numel() for p in model.parameters()) - numel
    report = {
        "compression": compression_ratio(numel, nnz),
        "compression_all": compression_ratio(numel + unprunable, nnz + unprunable),
        "nnz": nnz,
        "numel": numel,
        "layers": layers,
        "notes": [note for note in [left_out(model)] if note],
    }
    return report if input_shape is None else report | diagnosed(model, input_shape, weights, report)


def diagnosed(model: nn.Module, input_shape: Sequence[int], weights: Mapping[str, Tensor], report: dict) -> dict:
    """The parts of the report that need a pass of the network: where its code does not let them be known, None."""
    diagnosis: dict = dict.fromkeys(("connected", "effective_compression", "macs_dense", "macs_sparse"))
    notes = list(report["notes"])
    try:
        connected, effective = path_report(model, input_shape, weights)
        diagnosis |= {"connected": connected, "effective_compression": compression_ratio(report["numel"], effective)}
    except Exception as error:  # of anybody's network; what was trained is not lost to it
        notes.append(f"paths unknown: {error if isinstance(error, UsageError) else reason(error)}")
    try:
        diagnosis["macs_dense"], diagnosis["macs_sparse"] = macs(model, input_shape, weights)
    except Exception as error:
        notes.append(f"multiplications unknown: {reason(error)}")
    return diagnosis | {"notes": notes}
