"""Trained weights to start from, out of a file: safetensors, or a state dict that ``torch.save`` wrote.

No code of a file is run. What a run's spec calls it depends on its content, and processes that train get the content.
"""

import functools
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from dwfbench.base import files, plugins
from dwfbench.base.errors import UsageError, reason
from dwfbench.models.prunable import running_statistics

MOST = 1 << 37
"""Bytes of a file of weights: what is larger is none."""

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""


def identity(path: str) -> str:
    """What a run's spec calls the weights of a file, which is read: its name and twelve digits of its SHA-256.

    They can be loaded by it from then on. Raises UsageError when the file cannot be read or holds no state dict.
    """
    if plugins.taken("weights", path) is not None:
        return path
    file_path = Path(path).expanduser()
    try:
        file = plugins.File("weights", path, file_path.stem, files.content(file_path, MOST))
    except OSError as error:
        raise UsageError(f"The weights {path} cannot be read ({error.strerror or error}).") from None
    plugins.take(file)
    tensors(file.identity)
    return file.identity


@functools.lru_cache(maxsize=2)
def tensors(name: str) -> dict[str, Tensor]:
    """The state dict of an identity, on the CPU. Raises UsageError for what is none."""
    content = plugins.taken("weights", name)
    if content is None:
        raise UsageError(f"The weights {name} came from a file, which runs do not keep; give it as --init.")
    try:
        is_safetensors = content[8:9] == b"{"
        state = load(content) if is_safetensors else torch.load(io.BytesIO(content), "cpu", weights_only=True)
    except (SafetensorError, Exception) as error:  # a damaged pickle can fail in any way
        raise UsageError(
            f"The weights {name} cannot be read ({reason(error)}); save a plain state dict, with safetensors or as "
            "torch.save(model.state_dict(), PATH)."
        ) from None
    if isinstance(state, Mapping):  # what modules keep beside their tensors stays what it is in the network
        state = {key: value for key, value in state.items() if not str(key).endswith("_extra_state")}
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        keys = f" but has {', '.join(map(str, list(state)[:3]))}" if isinstance(state, Mapping) and state else ""
        raise UsageError(f"The weights {name} are no plain state dict: tensors by the names of parameters{keys}.")
    for wrapper in WRAPPERS:
        if all(key.startswith(wrapper) for key in state):
            state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return dict(state)


def put_into(network: nn.Module, name: str) -> list[str]:
    """Load the weights of an identity into a network; the names of parameters that the file lacks and that stay.

    Raises UsageError for a tensor that the network does not have or has in another shape, for parameters that are not
    finite, for two values of a tied one, and where no weight matrix is in the file.
    """
    state, network_state = tensors(name), network.state_dict()
    parameters = dict(network.named_parameters(remove_duplicate=False))
    finite = parameters.keys() | running_statistics(network)
    if foreign := sorted(state.keys() - network_state.keys()):
        raise UsageError(f"The weights {name} have {foreign[0]}, which the network does not.")
    for key, value in sorted(state.items()):  # safetensors gives them in any order
        if value.shape != network_state[key].shape:
            raise UsageError(
                f"The weights {name} have {key} of shape {tuple(value.shape)}, but the network's is "
                f"{tuple(network_state[key].shape)}; leave it out of the file to have it drawn."
            )
        if key in finite and not value.isfinite().all():  # of other buffers, a mask of attention is infinite
            raise UsageError(f"The weights {name} are infinite or NaN in {key}.")
    if all(value.dim() < 2 for value in state.values()):
        raise UsageError(f"The weights {name} have no weight of more than one dimension, so there is nothing to prune.")
    loaded: dict[int, str] = {}  # the first name in the file of each parameter, of which it may have some or all
    for key in sorted(state.keys() & parameters.keys()):
        if not torch.equal(state[key], state[first_key := loaded.setdefault(id(parameters[key]), key)]):
            raise UsageError(f"The weights {name} have two values of what is one parameter, {first_key} and {key}.")
    network.load_state_dict(state, strict=False)
    return [key for key, parameter in network.named_parameters() if id(parameter) not in loaded]
