"""DWF on any ``nn.Module`` and in one's own loop: factorize, train with ``param_groups``, collapse.

A factorized weight is a parametrization (``torch.nn.utils.parametrize``): the module computes it from its factors
``original0`` ... ``original{D-1}`` whenever it is read, so a forward pass, autocast, ``DistributedDataParallel``,
``torch.compile``, ``copy.deepcopy`` and ``state_dict`` work as ever. Sources: Kolb et al., ICLR 2025, arXiv 2502.02496
(factors, Algorithms 1 and 2); Kolb et al., NeurIPS 2025, arXiv 2509.23898 (groups).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dwfbench.base.errors import UsageError
from dwfbench.dwf import factors as factorization
from dwfbench.dwf.factors import DEFAULT_MIN_ABS, FLOAT32_EPSILON, capped_min_abs
from dwfbench.dwf.gates import GROUPS
from dwfbench.dwf.parametrization import Gated, Product
from dwfbench.dwf.places import Depth, Layers, choose, gate_shape_at, owners
from dwfbench.dwf.watch import watch
from dwfbench.models import prunable
from dwfbench.models.prunable import Place


class Parts(nn.Module):
    """PyTorch's form of a ``parametrization.Parametrization``: a weight's factors, or its primary tensor and gates.

    ``sigma`` is the standard deviation of the weight before, ``min_abs`` the eps of Algorithm 1, None if nothing was
    drawn.
    """

    def __init__(self, space: Product | Gated, sigma: float, min_abs: float | None = None):
        super().__init__()
        self.space, self.sigma, self.min_abs = space, sigma, min_abs

    def forward(self, *parts: Tensor) -> Tensor:
        return self.space.weight(*parts)

    def right_inverse(self, weight: Tensor) -> list[Tensor]:
        return list(self.space.keep(weight))


@torch.inference_mode(False)  # whatever the caller has switched off: what is made here is trained
def factorize(
    model: nn.Module,
    depth: Depth,
    *,
    layers: Layers = None,
    group: str = "none",
    min_abs: float = DEFAULT_MIN_ABS,
    generator: torch.Generator | None = None,
    keep_weights: bool = False,
    rescale: bool = False,
) -> nn.Module:
    """Replace weights by products of ``depth`` factors, in place; returns the model.

    ``layers`` says which: all that are ``prunable`` if None, the weights of Linear and Conv layers, transposed ones
    too, the projections of MultiheadAttention and the matrices of RNN, LSTM and GRU. Else shell patterns of module
    names and types, one or several, each of which stands for the layers in it too (``"encoder"``,
    ``nn.MultiheadAttention``), or a function of (name, module) that is asked of every such layer and every Embedding.
    A weight that several layers share (tied) is factorized once if one of them is chosen: all of them see the product,
    and ``collapse`` leaves them one parameter again. Frozen weights (``requires_grad`` False) are left alone.

    ``depth`` is the number of factors D >= 2, or a dict of patterns, ``{"conv1": 2, "*": 3}``: the first that fits
    counts, ``"*"`` last; 1 or None leaves a layer alone, and so does it if none fits. Where ``layers`` is None, a dict
    chooses an Embedding by a pattern other than ``"*"``.

    New factors are drawn by Algorithm 1 with sigma the standard deviation of the weights that the module holds,
    i.e. what its ordinary initialiser gave (``factors.deviation``), and eps = min(min_abs, sigma / 4). ``keep_weights``
    factorises the present values instead, with balanced factors, under which a weight keeps its sign and an exact zero
    stays zero; ``rescale`` multiplies fresh factors so that the product's standard deviation is sigma rather than
    0.3-0.85 of it (``product_std``). Biases and normalisation parameters stay as they are, and the row of an
    Embedding's ``padding_idx`` is zero.

    ``group`` = "channel" or "row" makes the weights of one output, or those that read one input, vanish together: a
    primary tensor of the weight's shape and D - 1 gates, one scalar a group (D-Gating). The present values are the
    primary tensor and the gates are 1, or all are balanced with ``keep_weights``; nothing is drawn. An Embedding's
    row is a token.

    Train with ``torch.optim.SGD(param_groups(model, strength))`` and end with ``collapse``. Factors should be
    float32, whatever autocast computes in: on its way to zero a weight of lower precision stops too early.

    Raises UsageError for a depth below 2 (below 1 in a dict), a pattern or type that fits no layer, an unknown group,
    a negative min_abs or one raised to 2 sigma or more, a weight that is factorised already, computed by something
    else, without values (lazy or on the meta device), not of real floating-point numbers, tied with another depth or
    other groups, or that has values which are infinite or NaN or a hook on its gradient, for an Embedding with max_norm
    or sparse=True, and if no layer is chosen. A refused model is left as it was.
    """
    if group not in GROUPS:
        raise UsageError(f"group must be one of {', '.join(GROUPS)}, not {group!r}.")
    if group != "none" and (rescale or min_abs != DEFAULT_MIN_ABS):
        raise UsageError(
            f"Nothing is drawn for group={group!r}, so min_abs and rescale have no effect; leave them out."
        )
    ready = []  # all weights are checked and drawn first: a refused model stays as it was
    for places, number in tied(model, choose(model, depth, layers)):
        weight = getattr(places[0].module, places[0].attribute)
        sigma = factorization.finite_deviation(places[0].name, weight)
        space: Product | Gated = Product(number, min_abs, rescale)
        if group != "none":
            space = Gated(number, group, shape_of_gates(places, weight, group))
        values: Sequence[Tensor] | None = None
        if not keep_weights:
            values = space.draw(places[0].name, weight.detach(), generator)
        drawn = values is not None and group == "none"
        if values is not None and drawn:
            clear_padding(places, values)
        ready.append((places, Parts(space, sigma, capped_min_abs(min_abs, sigma) if drawn else None), values))
    for places, parts, values in ready:
        register(places, parts)
        if values is not None:
            with torch.no_grad():
                for factor, value in zip(factors_at(places[0]), values, strict=True):
                    factor.copy_(value)
        watch(factors_at(places[0]))
    return model


def tied(model: nn.Module, chosen: list[tuple[Place, int | None]]) -> Iterator[tuple[list[Place], int]]:
    """Every weight to factorise once: all places that hold it, and its depth. Raises UsageError, see ``factorize``."""
    weights: dict[int, tuple[Place, int | None]] = {}
    for place, depth in chosen:
        check(place, depth)
        holder, depth_before = weights.setdefault(id(getattr(place.module, place.attribute)), (place, depth))
        if depth_before != depth:
            raise UsageError(f"{holder.name} and {place.name} are one tied weight; give them one depth.")
    for place, depth in weights.values():
        if depth is not None:
            yield owners(model, getattr(place.module, place.attribute)), depth


def check(place: Place, depth: int | None) -> None:
    """UsageError, with the reason, if the weight cannot be factorised but is to be."""
    if depth is None:
        return
    if parametrize.is_parametrized(place.module, place.attribute) and isinstance(chain_at(place)[0], Parts):
        raise UsageError(f"The weight {place.name} is factorized already; collapse it first.")
    prunable.present(place)
    parameter = getattr(place.module, place.attribute)
    if not parameter.is_floating_point():
        name = str(parameter.dtype).removeprefix("torch.")
        raise UsageError(f"The weight {place.name} is of type {name}; only real floating-point weights are factorized.")
    if parameter._backward_hooks:
        raise UsageError(f"The weight {place.name} has a hook on its gradient, which no factor has; take it off first.")
    if getattr(place.module, "max_norm", None) is not None or getattr(place.module, "sparse", False):
        raise UsageError(
            f"The Embedding {place.layer} has max_norm or sparse=True, which a product of factors cannot do."
        )


def shape_of_gates(places: list[Place], weight: Tensor, group: str) -> tuple[int, ...]:
    """The shape of the gates, about which all layers that share the weight must agree."""
    shapes = {gate_shape_at(place, group, weight) for place in places}
    if len(shapes) > 1:
        names = " and ".join(place.name for place in places)
        raise UsageError(f"{names} are one tied weight, but its {group}s are rows in one layer and columns in another.")
    return shapes.pop()


def clear_padding(places: list[Place], factors: Sequence[Tensor]) -> None:
    """Zero the drawn factors, (tokens, features) each, of the token that stands for padding."""
    row = prunable.padding_row(places)
    for factor in factors if row is not None else ():
        factor[row] = 0


def register(places: list[Place], parts: Parts) -> None:
    """Put the parametrization on all places that share a weight: they get one list of factors."""
    for place in places:
        parametrize.register_parametrization(place.module, place.attribute, parts)
        chains: Any = place.module.parametrizations
        chains[place.attribute] = chain_at(places[0])
        if isinstance(place.module, nn.RNNBase) and drop_computed not in place.module._forward_hooks.values():
            drop_computed(place.module)
            place.module.register_forward_hook(drop_computed)


def drop_computed(module: nn.RNNBase, *called: Any) -> None:
    """Cut the list of weights that an RNN keeps from pass to pass off their graph, or no copy could be made of it.

    A forward hook. The RNN makes its list anew when it sees other weights.
    """
    module._flat_weights = [weight if weight is None else weight.detach() for weight in module._flat_weights]


def keep_computed(module: nn.RNNBase) -> None:
    """Let an RNN use its own parameters again, whose list it makes anew only when it sees other weights."""
    for key, hook in list(module._forward_hooks.items()):
        if hook is drop_computed:
            del module._forward_hooks[key]
    module._init_flat_weights()


def param_groups(model: nn.Module, strength: float) -> list[dict]:
    """Groups for an optimiser: weight decay 2 * strength / D on the factors of depth D, none on anything else.

    PyTorch's SGD adds ``weight_decay * w`` to the gradient, so this is the gradient of (strength / D) sum_d ||w_d||^2,
    and any optimiser that does so will do; Adam does, but divides it by the gradient's own size afterwards, so that
    ``strength`` no longer means the same. The decoupled decay of AdamW is not a gradient of the penalty, and inverts
    the effect of depth: its first step on factors warns. Hyperparameters other than the decay are the optimiser's own.

    Raises UsageError when nothing is factorized or the strength is negative.
    """
    if not strength >= 0:
        raise UsageError(f"The strength must not be negative, but it is {strength}.")
    by_depth: dict[int, list[Tensor]] = {}
    for places, parts in factorized(model):
        by_depth.setdefault(parts.space.depth, []).extend(factors_at(places[0]))
    if not by_depth:
        raise UsageError("The model is not factorized; call factorize(model, depth) first.")
    factors = {id(factor) for group in by_depth.values() for factor in group}
    watch(factor for group in by_depth.values() for factor in group)
    undecayed = [parameter for parameter in model.parameters() if id(parameter) not in factors]
    groups = [{"params": group, "weight_decay": 2 * strength / depth} for depth, group in by_depth.items()]
    return [*groups, {"params": undecayed, "weight_decay": 0.0}] if undecayed else groups


@torch.inference_mode(False)
def collapse(model: nn.Module, threshold: float = FLOAT32_EPSILON) -> nn.Module:
    """Make a factorized model plain again, in place: weights are the products, |w| < threshold becomes 0.

    The end of Algorithm 2. Returns the model; layers that are not factorized are left alone, and copies of the model
    stay factorized. An Embedding whose weight was factorized counts as prunable from then on.
    """
    chosen = list(factorized(model))
    recurrent = {place.module for places, _ in chosen for place in places if isinstance(place.module, nn.RNNBase)}
    for places, _ in chosen:
        factors = factors_at(places[0])
        trained = any(factor.requires_grad for factor in factors)
        with torch.enable_grad():  # PyTorch makes a buffer, not a parameter, of a weight that needs no gradient
            for factor in factors:
                factor.requires_grad_()
            for place in places:
                own_class(place.module)
                parametrize.remove_parametrizations(place.module, place.attribute, leave_parametrized=True)
        weight = getattr(places[0].module, places[0].attribute)
        weight.requires_grad_(trained)
        with torch.no_grad():
            weight[weight.abs() < threshold] = 0
        for place in places:
            setattr(place.module, place.attribute, weight)  # one parameter again if it was tied
            prunable.choose(place)
    for module in recurrent:
        keep_computed(module)
    return model


def own_class(module: nn.Module) -> None:
    """Give a parametrized module a class of its own.

    ``copy.deepcopy`` leaves it the class of the original, from which ``remove_parametrizations`` deletes the weight's
    property, for all copies at once.
    """
    shared = type(module)
    module.__class__ = type(shared.__name__, shared.__bases__, dict(shared.__dict__))


def misalignment(model: nn.Module) -> float:
    """(1/D) sum_d ||w_d||^2 - ||w||_{2/D}^{2/D} (section 4.2), summed over all factorized weights: 0 iff balanced.

    For groups, sum_g ||w_g||_2^{2/D} is what is subtracted. 0 without factorized weights.
    """
    with torch.no_grad():
        return sum(float(parts.space.misalignment(factors_at(places[0]))) for places, parts in factorized(model))


def init_statistics(model: nn.Module) -> list[dict]:
    """What initialisation made of every factorized weight: one dict each, in model order. Call it before training.

    - ``name``, ``depth``, ``group``: the weight's name in the plain model, D, "none", "channel" or "row"
    - ``sigma``: standard deviation of the weight before, i.e. that of its ordinary initialiser
    - ``std``: standard deviation of the product of the factors
    - ``kurtosis``: fourth moment over squared second, about the mean: 3 for a normal distribution, 3^D for a product of
      D normal factors that are not truncated; None for a constant weight
    - ``truncated``: share of normal factors that Algorithm 1 draws again, in closed form; None if nothing was drawn
    - ``min_abs``: smallest |w|
    """
    rows = []
    with torch.no_grad():
        for places, parts in factorized(model):
            space = parts.space
            weight = getattr(places[0].module, places[0].attribute).double()
            centred = weight - weight.mean()
            variance = float(centred.square().mean())
            redrawn = None
            if parts.min_abs is not None:
                redrawn = factorization.redrawn(parts.sigma, space.depth, parts.min_abs)
            rows.append(
                {
                    "name": places[0].name,
                    "depth": space.depth,
                    "group": getattr(space, "group", "none"),
                    "sigma": parts.sigma,
                    "std": variance**0.5,
                    "kurtosis": float(centred.pow(4).mean()) / variance**2 if variance else None,
                    "truncated": redrawn,
                    "min_abs": float(weight.abs().min()),
                }
            )
    return rows


def factorized(model: nn.Module) -> Iterator[tuple[list[Place], Parts]]:
    """Every factorized weight once, in model order: the places that share it, and its parametrization."""
    holders_of: dict[int, list[Place]] = {}
    for name, module in model.named_modules():
        # A module that torch.compile has made has the attributes of the one in it, which is visited itself.
        if "parametrizations" in module._modules and parametrize.is_parametrized(module):
            chains: Any = module.parametrizations
            for attribute, chain in chains.items():
                if isinstance(chain[0], Parts):
                    holders_of.setdefault(id(chain), []).append(Place(name, module, attribute))
    for places in holders_of.values():
        yield places, chain_at(places[0])[0]


def chain_at(place: Place) -> Any:
    """The list of parametrizations, one long, of the factorized weight at this place."""
    chains: Any = place.module.parametrizations
    return chains[place.attribute]


def factors_at(place: Place) -> list[Tensor]:
    """The factors of the weight at this place, in order."""
    chain = chain_at(place)
    return [getattr(chain, f"original{index}") for index in range(chain[0].space.depth)]
