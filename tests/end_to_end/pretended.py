"""A CUDA device that is not there: tensors that say they are on it, with their values on the CPU.

Whatever is asked of them is computed, backward passes and reads by the host too, and an operation that mixes the two
devices raises as on CUDA. PyTorch's ``FakeTensorMode`` has no values to read and, without a GPU, no backward pass.

Python is told "cuda"; PyTorch's inside is told "lazy", a device whose backward pass needs no thread of its own.
"""

import contextlib

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA, INSIDE, CPU = torch.device("cuda", 0), torch.device("lazy", 0), torch.device("cpu")

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class Pretended(Tensor):
    """A tensor on the device."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor):
        places = {"strides": value.stride(), "storage_offset": value.storage_offset()}
        return cls._make_wrapper_subclass(cls, value.shape, **places, dtype=value.dtype, device=INSIDE)

    def __init__(self, value: Tensor):
        self.value = value

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})

    def __reduce_ex__(self, protocol):
        raise TypeError(f"a tensor on {CUDA} must not leave the process: where it arrives there may be no such device")


def compute(func, args, kwargs):
    """An operation as PyTorch's dispatcher sees it, on the values; its results are on the device of its operands."""
    leaves = list(flat((*args, *kwargs.values())))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    there = any(type(tensor) is Pretended for tensor in tensors)
    if there and any(stranger(tensor, func, args) for tensor in tensors):
        raise RuntimeError(f"{func}: some tensors are on {CUDA} and some on the CPU")
    device = kwargs.get("device")
    there = there if device is None else device.type == INSIDE.type
    if there and any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(f"{func}: a generator of the CPU draws no tensor on {CUDA}")
    own = {id(tensor.value): tensor for tensor in tensors if type(tensor) is Pretended}

    def wrapped(value):
        if not (there and isinstance(value, Tensor)):
            return value
        return own[id(value)] if id(value) in own else Pretended(value)  # what was written in place stays itself

    result = func(*mapped(unwrapped, args), **{name: mapped(unwrapped, value) for name, value in kwargs.items()})
    return mapped(wrapped, result)


def stranger(tensor: Tensor, func, args) -> bool:
    """Whether a tensor is one of the CPU that CUDA would refuse beside its own.

    Copies read or write any device, elementwise operations read a scalar, and the CPU may index what is on a device.
    """
    if type(tensor) is Pretended or func in COPIES:
        return False
    written = func._schema.is_mutable and tensor is args[0]
    scalar = tensor.dim() == 0 and not written
    if func in INDEXING:
        return written or not (scalar or any(tensor is index for index in args[1]))
    return not (scalar and torch.Tag.pointwise in func.tags)


def flat(values):
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from flat(value)
        else:
            yield value


def mapped(function, value):
    return type(value)(mapped(function, part) for part in value) if type(value) in (list, tuple) else function(value)


def unwrapped(value):
    if type(value) is Pretended:
        return value.value
    return CPU if isinstance(value, torch.device) and value.type == INSIDE.type else value


class Operations(TorchDispatchMode):
    """New tensors, which have no operand, may be on the device, too."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


class Names(TorchFunctionMode):
    """The device's name in Python, and two functions that know no subclasses of tensors or go round the dispatcher."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = [inner(value) for value in args], {name: inner(value) for name, value in (kwargs or {}).items()}
        if func is Tensor.tolist:
            return unwrapped(args[0]).tolist()
        device = kwargs.pop("device", None) if func is torch.tensor else None
        result = func(*args, **kwargs)
        if device is not None:
            result = result.to(device)
        return CUDA if isinstance(result, torch.device) and result.type == INSIDE.type else result


def inner(value):
    if isinstance(value, torch.device):
        return INSIDE if value.type == CUDA.type else value
    return INSIDE if isinstance(value, str) and value.partition(":")[0] == CUDA.type else value


@contextlib.contextmanager
def pretended():
    """Meanwhile there is a device called "cuda"; ``torch.cuda`` itself knows nothing of it."""
    with Names(), Operations():
        yield CUDA
