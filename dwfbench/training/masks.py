"""Asking a method for masks: what it may look at, scores once a seed, and whose time that was."""

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor

from dwfbench.base.errors import UsageError
from dwfbench.base.text import first_few
from dwfbench.dwf.parametrization import Parametrization, part_names
from dwfbench.methods.contract import Method, Moment, Tensors
from dwfbench.sparsity.masks import silent
from dwfbench.training.group import Group
from dwfbench.training.lanes import generator, lane_of, lane_tensors, stack
from dwfbench.training.networks import Networks


def silence(names: list[str]) -> str:
    """What a record says of layers whose scores are all zero."""
    return (
        f"the scores of {first_few(names)} are all zero (a layer that starts at zero stops every "
        "signal), so which of their weights are kept, as many as of all, is chance"
    )


class Masks:
    """Chooses and applies the masks of groups; ``steps`` is their number in a whole training."""

    def __init__(self, networks: Networks, method: Method, steps: int):
        self.networks, self.method, self.steps = networks, method, steps
        self.initial_scores: dict[int, tuple[Tensors | None, float]] = {}  # by seed, with the seconds that they took

    def choose(
        self, group: Group, weights: Tensors, step: int, stage: int, begins: bool, gradients: Callable[[int], Tensors]
    ) -> Tensors:
        """The masks (L, ...) before a step, from the effective ``weights`` (L, ...); empty: they stay as they are.

        A lane for which the method chooses none keeps those that it has. ``begins`` says whether the step is the first
        of stage ``stage``; ``gradients(lane)`` are those on its batch. The time is charged to the lanes, each for its
        own.
        """
        started = time.perf_counter()
        by_lane: list[Tensors] = []
        changed = False
        for lane, trained in enumerate(group.lanes):
            lane_weights = lane_tensors(weights, lane)
            intact = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in lane_weights.items()}
            current = intact | {name: mask[lane] > 0 for name, mask in group.state.masks.items()}
            by_lane.append(current)
            if trained.status != "ok" or not all(weight.isfinite().all() for weight in lane_weights.values()):
                continue  # a lane that ended, or will with this epoch, has nothing to choose from but NaNs
            spec = trained.spec
            moment = Moment(
                weights=lane_weights,
                masks=current,
                compression=spec.compression,
                step=step,
                steps=self.steps,
                stage=stage,
                begins=begins,
                generator=self.randomness(spec.seed, step),
                input_shape=self.networks.data.input_shape,
                network=functools.cache(
                    functools.partial(self.networks.module, spec.seed, lane_weights, *lane_of(group.state, lane)[1:3])
                ),
                batch=functools.partial(self.batch, spec.seed),
                loss=self.networks.data.task.loss,
                gradients=functools.cache(functools.partial(gradients, lane)),
            )
            scores, seconds = self.scores(moment, spec.seed)
            if step == 0 and scores is not None and (names := silent(scores)):
                trained.notes = (*trained.notes, silence(names))
            clock = time.perf_counter()
            masks = self.method.masks(moment, scores)
            if masks is not None:
                changed, by_lane[-1] = True, current | self.checked(masks, lane_weights)
            trained.charge(seconds + time.perf_counter() - clock)
        group.since += time.perf_counter() - started
        return stack(by_lane) if changed else {}

    def scores(self, moment: Moment, seed: int) -> tuple[Tensors | None, float]:
        """The method's scores and the seconds they took; those of an initial network are computed once a seed."""
        started = time.perf_counter()
        if moment.step:
            return self.method.scores(moment), time.perf_counter() - started
        if seed not in self.initial_scores:
            scores = self.method.scores(moment)
            # Those of one seed only are kept: they are as large as the network.
            self.initial_scores = {seed: (scores, time.perf_counter() - started)}
        return self.initial_scores[seed]

    def checked(self, masks: Tensors, weights: Tensors) -> Tensors:
        """The masks. UsageError where they are none: as a number, 0.5 would halve a weight at every step."""
        for name, mask in masks.items():
            if name not in weights or mask.shape != weights[name].shape:
                raise UsageError(f"{self.method.name} masks {name}, but there is no weight of that name and shape.")
            if mask.dtype != torch.bool:
                raise UsageError(f"{self.method.name} masks {name} by {mask.dtype}; a mask is of torch.bool.")
        return masks

    def randomness(self, seed: int, step: int) -> torch.Generator:
        return generator(seed, f"masks:{self.method.name}:{step}") if step else self.networks.randomness(seed)

    def batch(self, seed: int, per_class: int) -> tuple[Tensor, Tensor]:
        return self.networks.data.balanced_batch(per_class, generator(seed, "scores"))

    def apply(self, group: Group, masks: Tensors, parametrization: Parametrization) -> None:
        """Put the lanes under masks (L, ...), by the names of the weights; steps keep them there."""
        for name, mask in masks.items():
            part = group.state.weights[part_names(parametrization, name)[0]]
            if name in group.state.masks:  # in place, so that a compiled step stays the same
                group.state.masks[name].copy_(mask)
            else:
                group.state.masks[name] = mask.to(part)
            part.mul_(group.state.masks[name])
