"""How large and how fast the forms of a sparse network are, on this device: dense, sparse and compact.

- dense: the network as it was trained, zeros included
- sparse: Linear layers with their weights in ``torch.sparse_csr``; convolutions stay dense: PyTorch has no sparse ones
- compact: dead neurons and channels removed (``compact.compact``), the rest dense

Times are of whole forward passes in float32. The forms take turns, so that whatever else the machine does meets all;
speeds are compared within a round, and a speed-up comes with the interval that the rounds leave for it.
"""

import copy
import datetime
import math
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import bdtr
from torch import Tensor, nn

from dwfbench.base.errors import UsageError, refused
from dwfbench.data.task import CLASSIFICATION, Task
from dwfbench.deploy.compact import compact, plain
from dwfbench.deploy.export import Forward, compare, compressed, dense_bytes, tensors_of
from dwfbench.deploy.sparsefile import sparse_bytes
from dwfbench.models.prunable import prunable
from dwfbench.sparsity import count

BATCHES = (1, 32, 256)
ROUNDS = 30
"""Times that every form is timed at every batch size, by default."""

SHORTEST = 2e-3
"""Seconds that one timing lasts at least, by repeating the pass: far above a clock's resolution and a call's cost."""


class SparseLinear(nn.Module):
    """A Linear layer whose weight is a sparse matrix; on (..., in_features), as ``nn.Linear``."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # PyTorch calls its sparse matrices a beta
            self.register_buffer("weight", layer.weight.detach().to_sparse_csr())
        self.bias = layer.bias

    def forward(self, features: Tensor) -> Tensor:
        outputs = torch.sparse.mm(self.weight, features.flatten(0, -2).t()).t()
        outputs = outputs if self.bias is None else outputs + self.bias
        return outputs.view(*features.shape[:-1], -1)


def with_sparse_layers(network: nn.Module) -> nn.Module:
    """A copy of a network with ``SparseLinear`` for its Linear layers, but for those whose weights others read:
    subclasses, and the ones of a TransformerEncoderLayer."""
    changed = copy.deepcopy(network)
    sparse: dict[int, SparseLinear] = {}
    for name, layer in list(changed.named_modules(remove_duplicate=False)):  # a layer may have several names
        parent, _, attribute = name.rpartition(".")
        holder = changed.get_submodule(parent)
        if type(layer) is nn.Linear and not isinstance(holder, nn.TransformerEncoderLayer):
            if id(layer) not in sparse:
                sparse[id(layer)] = SparseLinear(layer)
            if not name:
                return sparse[id(layer)]
            setattr(holder, attribute, sparse[id(layer)])
    return changed


@refused("This network cannot be measured")
def measure(
    network: nn.Module,
    inputs: Tensor,
    labels: Tensor | None = None,
    batches: Sequence[int] = BATCHES,
    rounds: int = ROUNDS,
    task: Task = CLASSIFICATION,
) -> dict[str, Any]:
    """Sizes, accuracy and latency of the forms of a network, on the device of its ``inputs`` (N, ...), float32.

    - ``forms``: for each form ``bytes`` of its safetensors file, ``bytes_zlib``, ``macs`` (its multiplications by
      prunable weights, by zeros too, but in sparse layers), ``test_accuracy`` on ``inputs`` (a fraction, of another
      ``task`` its score; None without ``labels``), and for all but dense ``max_abs_difference`` from it and the
      ``tolerance`` for that
    - ``latency``: for each batch size and form the ``median`` and ``iqr`` (interquartile range) of the seconds a pass
      takes, the number of ``outliers`` among them, and ``speedup``, the median over the rounds of dense's seconds over
      the form's, with its 95 % interval from ``low`` to ``high`` (see ``interval``)
    - ``samples``, ``rounds``, ``measured`` (UTC)
    - ``left_out``: why there is no compact form, where there is none

    Raises UsageError for a batch size or number of rounds below 1, for a network that fails in one of its forms, and
    where a form's outputs differ.
    """
    if min(batches, default=0) < 1 or rounds < 1:
        raise UsageError("Batch sizes and rounds must be at least 1.")
    network, shape = plain(network), inputs.shape[1:]
    weights = prunable(network)
    network.requires_grad_(False)
    networks = {"dense": network, "sparse": with_sparse_layers(network)}
    contents = {"dense": dense_bytes(network), "sparse": sparse_bytes(tensors_of(network))}
    macs = {
        "dense": count.macs(network, shape, weights)[0],
        "sparse": sparse_macs(network, networks["sparse"], shape, weights),
    }
    left_out = None
    try:
        networks["compact"] = smaller = compact(network, shape)
        contents["compact"] = dense_bytes(smaller)
        macs["compact"] = count.macs(smaller, shape, {name: smaller.get_parameter(name) for name in weights})[0]
    except UsageError as error:
        left_out = str(error)
    networks = {form: module.to(inputs.device) for form, module in networks.items()}
    sparse_forms = {form: module for form, module in networks.items() if form != "dense"}
    checks, accuracy = compare(networks["dense"], sparse_forms, inputs, labels, task)
    checked = {check.pop("file"): check for check in checks}
    checked["dense"] = {"test_accuracy": accuracy}
    forms = {
        form: {"bytes": len(content), "bytes_zlib": compressed(content), "macs": macs[form], **checked[form]}
        for form, content in contents.items()
    }
    latency = []
    for batch in sorted(set(batches)):
        samples = inputs[torch.arange(batch, device=inputs.device) % len(inputs)]
        latency += summary(batch, seconds(networks, samples, rounds))
    measured_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found = {"forms": forms, "latency": latency, "samples": len(inputs), "rounds": rounds, "measured": measured_at}
    return found | ({"left_out": left_out} if left_out else {})


def sparse_macs(
    network: nn.Module, sparse_network: nn.Module, input_shape: Sequence[int], weights: Mapping[str, Tensor]
) -> int:
    """MACs where the layers that are sparse in ``sparse_network`` skip zeros and nothing else does."""
    layers = [name for name, layer in sparse_network.named_modules() if isinstance(layer, SparseLinear)]
    skipping = {id(network.get_submodule(name).weight) for name in layers}
    counted = {name: weight if id(weight) in skipping else torch.ones_like(weight) for name, weight in weights.items()}
    return count.macs(network, input_shape, counted)[1]


@torch.no_grad()  # not inference_mode, which refuses CSR weights that a network reads itself
def seconds(forms: Mapping[str, Forward], samples: Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds a pass of every form takes, ``rounds`` times, one form after the other in each round.

    Who begins changes from round to round, for what runs first may find a colder cache.
    """
    calls = {}
    for form, forward in forms.items():  # a warm-up too
        timed(forward, samples, 1)
        calls[form] = math.ceil(SHORTEST / max(timed(forward, samples, 2), 1e-7))
    seconds_of: dict[str, list[float]] = {form: [] for form in forms}
    order = list(forms)
    for _ in range(rounds):
        for form in order:
            seconds_of[form].append(timed(forms[form], samples, calls[form]))
        order.append(order.pop(0))
    return seconds_of


def timed(forward: Forward, samples: Tensor, calls: int) -> float:
    """Seconds a call, over some."""
    synchronize(samples.device)
    start = time.perf_counter()
    for _ in range(calls):
        forward(samples)
    synchronize(samples.device)
    return (time.perf_counter() - start) / calls


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def summary(batch: int, seconds_of: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """What is said of the seconds of every form, one number a round; "dense" must be among them."""
    rows = []
    for form, values in seconds_of.items():
        ratios = [dense / sparse for dense, sparse in zip(seconds_of["dense"], values, strict=True)]
        low, high = interval(ratios)
        first, third = np.percentile(values, (25, 75)).tolist()
        row = {
            **{"batch": batch, "form": form, "median": statistics.median(values), "iqr": third - first},
            **{"outliers": outliers(values), "speedup": statistics.median(ratios), "low": low, "high": high},
        }
        rows.append(row)
    return rows


def outliers(values: Sequence[float]) -> int:
    """How many lie more than one and a half interquartile ranges outside the quartiles (Tukey 1977)."""
    first, third = np.percentile(values, (25, 75))
    fence = 1.5 * (third - first)
    return sum(not first - fence <= value <= third + fence for value in values)


def interval(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """The narrowest interval between two of the values, equally far from the ends of their order, that holds the median
    of what they are drawn from with 95 % probability at least; None for fewer than six values, which have none.

    A value lies below that median with probability 1/2, whatever the distribution: their number is binomial.
    """
    at_most_below = bdtr(np.arange(len(values)), len(values), 0.5)
    rank = int((at_most_below <= 0.025).sum())
    ordered = sorted(values)
    return (ordered[rank - 1], ordered[-rank]) if rank else (None, None)
