"""A network of somebody's own: built, made plain, and refused in a sentence if it could not be trained right.

All questions are asked before any training, on a few random inputs: once a process of each network, as asking
costs passes. docs/networks.md lists what is refused, and why.
"""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.func import grad
from torch.nn.modules.batchnorm import _BatchNorm

from dwfbench.base.errors import UsageError
from dwfbench.base.foreign import contained, told
from dwfbench.models.functional import caller, modes_kept
from dwfbench.models.prunable import is_lazy

Make = Callable[[Any, int], nn.Module]

SAMPLES = 4
ROUNDING = 0.01
"""Difference of outputs, relative to the largest, that the size of a batch may make."""

_sound: set[tuple] = set()


def build(name: str, make: Make, input_shape: Sequence[int], classes: int) -> nn.Module:
    """The network that ``make`` makes. UsageError, with the reason, for one that cannot be trained right."""
    before, case = torch.get_rng_state(), (name, tuple(input_shape), classes)
    model = made(name, make, input_shape, classes)
    if case not in _sound:
        after = torch.get_rng_state()
        torch.set_rng_state(before)
        if why := unrepeatable(model, made(name, make, input_shape, classes)):
            raise UsageError(f"model '{name}' {why}")
        torch.set_rng_state(after)
    separate(model)
    if case not in _sound or is_unfinished(model):
        Examination(name, model, input_shape, classes).pass_or_refuse()
        _sound.add(case)
    return model


def made(name: str, make: Make, input_shape: Sequence[int], classes: int) -> nn.Module:
    """What ``make`` returns, without what spreads it over devices. UsageError where it fails or is no network."""
    try:
        with contained():
            model = make(input_shape, classes)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"model '{name}' failed for {input_shape=}, {classes=} ({told(error)})") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"model '{name}' must return a torch.nn.Module, not {type(model).__name__}")
    return unwrapped(model)


def unrepeatable(model: nn.Module, again: nn.Module) -> str | None:
    """Why two calls at the same state of torch's generator do not make one network twice, as half a sentence."""
    first, second = (
        {name: value for name, value in (*network.named_parameters(), *network.named_buffers()) if is_written(value)}
        for network in (model, again)
    )
    if set(map(id, first.values())) & set(map(id, second.values())):
        return "returns what it returned before, in which training would go on; build the module in the function"
    if first.keys() == second.keys() and all(equal(first[name], second[name]) for name in first):
        return None
    return (
        "is another network each time, which no seed would repeat; draw weights and sizes from torch's generator alone"
    )


def is_written(tensor: Tensor) -> bool:
    """Whether training may write into a tensor: all but frozen parameters, which networks may share."""
    return tensor.requires_grad or not isinstance(tensor, nn.Parameter)


def equal(tensor: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same, as far as they have values yet."""
    if is_lazy(tensor) or is_lazy(other):
        return is_lazy(tensor) == is_lazy(other)
    if tensor.shape != other.shape or tensor.dtype != other.dtype or tensor.layout is not other.layout:
        return False
    if tensor.is_meta or tensor.layout is not torch.strided:
        return True
    return bool(((tensor == other) | (tensor.isnan() & other.isnan())).all())


def unwrapped(model: nn.Module) -> nn.Module:
    """The network without what spreads it over devices or compiles it: both are the trainer's matter."""
    if isinstance(model, torch.jit.ScriptModule):
        return model
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    while isinstance(inner := model._modules.get("_orig_mod"), nn.Module):  # of torch.compile
        model = inner
    model._compiled_call_impl = None  # of Module.compile
    for name, child in list(model._modules.items()):
        if child is not None:
            model._modules[name] = unwrapped(child)
    return model


def separate(model: nn.Module) -> None:
    """Give every number of a tensor a place of its own, so that it can be written: in an expanded one they share it."""
    for tensor in tensors_of(model):
        if not is_lazy(tensor) and tensor.layout is torch.strided and 0 in tensor.stride():
            tensor.data = tensor.data.contiguous()


def is_unfinished(model: nn.Module) -> bool:
    """Whether a lazy layer waits for the first pass to get its shape."""
    return any(map(is_lazy, tensors_of(model)))


def tensors_of(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


class Examination:
    """The questions to a network, each a method; the first that it fails refuses it."""

    def __init__(self, name: str, model: nn.Module, input_shape: Sequence[int], classes: int):
        self.name, self.model, self.input_shape, self.classes = name, model, tuple(input_shape), classes
        random = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(SAMPLES, *input_shape, generator=random)
        self.parameters = dict(model.named_parameters())
        self.versions = {name: value._version for name, value in self.parameters.items() if has_version(value)}
        self.buffers = set(dict(model.named_buffers()))
        self.along = torch.randn(SAMPLES, classes, generator=random)  # gradients are those of a random direction

    def pass_or_refuse(self) -> None:
        """Modes and values are left as they are. Lazy layers have their shapes afterwards."""
        with modes_kept(self.model):
            self.model.eval()
            self.check_tensors()
            outputs = self.outputs_of("eval", self.inputs)
            if is_unfinished(self.model):
                self.refuse("has lazy layers that no pass reaches; build them with their sizes, or leave them out")
            self.check_parameters()
            self.check_samples(outputs)
            self.model.train()
            self.check_training()
            self.check_gradient()

    def refuse(self, why: str) -> NoReturn:
        raise UsageError(f"model '{self.name}' {why}")

    def outputs_of(self, mode: str, inputs: Tensor, seed: int = 0) -> Tensor:
        """The outputs for some samples, without gradients; random numbers are those of the seed."""
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad(), contained():
                torch.manual_seed(seed)
                outputs = self.model(inputs.clone())
        except Exception as error:
            self.refuse(f"fails on images of shape {self.input_shape} in {mode} mode ({told(error)})")
        self.check_outputs(outputs, mode, len(inputs))
        return outputs

    def check_outputs(self, outputs: Any, mode: str, count: int = SAMPLES) -> None:
        if not isinstance(outputs, Tensor):
            self.refuse(
                f"returns a {type(outputs).__name__} in {mode} mode, but must return the logits alone, a tensor; "
                "wrap it in a module that picks them"
            )
        shape, expected = tuple(outputs.shape), (count, self.classes)
        if shape != expected:
            self.refuse(f"must map {count} images to logits of shape {expected} in {mode} mode, not {shape}")
        if not outputs.is_floating_point():
            self.refuse(f"returns logits of type {text(outputs.dtype)}, but they must be floating-point numbers")

    def check_tensors(self) -> None:
        """Of what the network holds: each tensor must be one that a step can take."""
        if isinstance(self.model, torch.jit.ScriptModule):
            self.refuse("is compiled by torch.jit; return the module itself")
        if any(tensor.is_meta or tensor.layout is not torch.strided for tensor in tensors_of(self.model)):
            self.refuse("has tensors on the meta device, or sparse ones; all must be dense and have values")
        if any(not is_lazy(tensor) and tensor.is_inference() for tensor in tensors_of(self.model)):
            self.refuse("was built in inference mode, in which nothing can be trained; build it outside")
        trainable = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        if not trainable:
            self.refuse("has no trainable parameter; call requires_grad_() on what is to be trained")
        for name, parameter in trainable.items():
            if parameter.dtype not in (torch.float32, torch.float64):
                self.refuse(
                    f"has the parameter {name} of type {text(parameter.dtype)}; what is trained must be float32 or "
                    "float64 (--precision bf16 computes in bfloat16)"
                )
            if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
                self.refuse(f"has a hook on the gradient of {name}, which a step would not call; take it off")
        tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        if pair := sharing({name: value for name, value in tensors.items() if not is_lazy(value)}, set(trainable)):
            self.refuse(f"has tensors that share memory, {pair[0]} and {pair[1]}; tie them as one parameter")

    def check_samples(self, outputs: Tensor) -> None:
        """A test accuracy must not depend on which samples are tested together, nor on chance."""
        layers = [name for name, module in self.model.named_modules() if isinstance(module, _BatchNorm)]
        for name in layers:
            if self.model.get_submodule(name).running_mean is None:
                self.refuse(
                    f"has the layer {name} without running statistics, so that its accuracy would depend on which "
                    "samples are tested together; use track_running_stats=True, or GroupNorm"
                )
        fewer = self.outputs_of("eval", self.inputs[: SAMPLES // 2], seed=1)
        if differ(fewer, outputs[: SAMPLES // 2]):
            self.refuse(
                "gives a sample other logits in eval mode when it is passed with other samples, or again: something in "
                "it depends on the batch or on chance (statistics of the batch, dropout that heeds no mode)"
            )

    def check_parameters(self) -> None:
        """A pass must not write into parameters: what is trained for them would know nothing of it."""
        for name, version in self.versions.items():
            if self.parameters[name]._version != version:
                self.refuse(f"writes into its parameter {name} while it runs (max_norm?), which no method allows for")
        parameters = dict(self.model.named_parameters())
        new_names = [name for name, value in parameters.items() if value is not self.parameters.get(name)]
        new_names += [name for name, _ in self.model.named_buffers() if name not in self.buffers]
        if new_names:
            self.refuse(f"makes or replaces {new_names[0]} while it runs; build it in __init__, or use lazy layers")

    def check_training(self) -> None:
        """A pass may write into buffers, but must not replace them, which a functional call forgets, nor keep anything
        elsewhere that changes the next one: it would go from run to run."""
        buffers = dict(self.model.named_buffers())
        originals = {name: buffer.clone() for name, buffer in buffers.items()}
        outputs = []
        for inputs in (self.inputs, -self.inputs, self.inputs):
            outputs.append(self.outputs_of("training", inputs))
            if any(buffers.get(name) is not buffer for name, buffer in self.model.named_buffers()):
                self.refuse(
                    "replaces buffers while it runs; write into them (self.mean.copy_(...)) so that they are kept"
                )
            self.check_parameters()
            with torch.no_grad():
                for name, buffer in buffers.items():
                    buffer.copy_(originals[name])
        if differ(outputs[-1], outputs[0]):
            self.refuse(
                "gives the same samples other logits in training mode once it has seen others: it keeps something "
                "outside of its buffers, or draws random numbers that are not of torch's generator"
            )

    def check_gradient(self) -> None:
        """Of what is trained, by the same functional call as in a step."""
        trained = {name: value.detach() for name, value in self.model.named_parameters() if value.requires_grad}
        call = caller(self.model)

        def value(tensors: dict[str, Tensor]) -> Tensor:
            buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
            outputs = call({**tensors, **buffers}, self.inputs.clone())
            self.check_outputs(outputs, "training")
            return (outputs.float() * self.along).sum()

        try:
            with contained():
                gradients = grad(value)(trained)
        except UsageError:
            raise
        except Exception as error:
            self.refuse(f"cannot be trained ({told(error)})")
        if not any(bool(gradient.any()) for gradient in gradients.values()):
            self.refuse("has logits that do not depend on what is trained (no_grad, detach, a function of steps)")


def differ(outputs: Tensor, expected: Tensor) -> bool:
    """Whether outputs differ by more than rounding; what is NaN is not told."""
    difference = (outputs - expected).abs().max()
    return bool(difference > ROUNDING * expected.abs().max())


def has_version(tensor: Tensor) -> bool:
    """Whether a tensor counts the writes into it."""
    return not is_lazy(tensor) and not tensor.is_inference()


def sharing(tensors: Mapping[str, Tensor], trainable: Collection[str]) -> tuple[str, str] | None:
    """Two tensors, one of them trainable, that lie in the same memory, so that a step would move both at once."""
    places = []
    for name, value in tensors.items():
        if value.numel():
            length = sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True)) + 1
            places.append((value.data_ptr(), value.data_ptr() + length * value.element_size(), name))
    for (_, end, first), (start, _, second) in itertools.pairwise(sorted(places)):
        if start < end and (first in trainable or second in trainable):
            return first, second
    return None


def text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
