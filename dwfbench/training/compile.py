"""How a training step is compiled, and whether this machine can.

Measured ratios are in benchmarks/README.md; nothing here changes a result beyond rounding.
"""

import functools
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch


def available(device: torch.device) -> bool:
    """Whether there is a compiler for the device: a C++ compiler for a CPU, Triton for CUDA."""
    if device.type == "cpu":
        return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))
    return importlib.util.find_spec("triton") is not None


def compiled(step: Callable, device: torch.device, graphs: bool = True) -> Callable:
    """The step as one graph of static shapes; the code is kept on disk, for later processes too.

    With ``graphs``, on CUDA, a step is one launch instead of one a kernel, for tensors that ``stay`` was told of; only
    a benchmark goes without. Torch builds libraries where it keeps them, so a process that is killed meanwhile leaves
    half of one, at which every later one would fail: such a library is removed, and built again.
    """
    # With this pass torch 2.11 lets a step of several lanes read weights that it has already moved.
    options: dict[str, Any] = {"reorder_for_peak_memory": False}
    if device.type == "cuda":
        options["triton.cudagraphs"] = graphs
    elif onednn_is_faster():
        from dwfbench.training.onednn import OneDnnProducts  # most commands need not wait for the compiler

        options["post_grad_custom_post_pass"] = OneDnnProducts()
    call = torch.compile(step, fullgraph=True, dynamic=False, options=options)

    @functools.wraps(step)
    def mended(*arguments: Any) -> Any:
        for _ in range(MENDED):
            try:
                return call(*arguments)
            except Exception as error:  # before the step begins, or it names no library
                if not removed_libraries(str(error)):
                    raise
        return call(*arguments)

    return mended


MENDED = 8
"""So many times at most; a step has two libraries, each made of one object and perhaps a header."""


def removed_libraries(error: str) -> bool:
    """Remove the built files in torch's cache that an error names; whether it named any."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    named = re.findall(rf"{re.escape(cache_dir())}[^\n:'\"]*?\.(?:so|o|gch)\b", error)
    for path in named:
        Path(path).unlink(missing_ok=True)
    return bool(named)


def forget() -> None:
    """Make room for the steps of another curve: all share their code, and eight variants of it are the limit."""
    torch.compiler.reset()


def stay(tensors: Iterable[torch.Tensor]) -> None:
    """Promise that these tensors keep their memory from step to step.

    A CUDA graph copies every other tensor before each launch, and there is none at all of a step that writes to one.
    Steps over tensors elsewhere, of another group, are recorded anew.
    """
    for tensor in tensors:
        torch._dynamo.mark_static_address(tensor, guard=False)


@functools.cache
def onednn_is_faster() -> bool:
    """Whether float32 matrix products are faster in oneDNN than in MKL, which leaves AVX-512 idle on AMD's processors.

    A rule rather than a measurement, so that the same command gives the same numbers.
    """
    try:
        vendor = Path("/proc/cpuinfo").read_text()
    except OSError:
        vendor = platform.processor()
    return (
        torch.backends.mkldnn.is_available() and "AMD" in vendor and torch.backends.cpu.get_cpu_capability() == "AVX512"
    )
