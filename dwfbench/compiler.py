"""How a training step is compiled, and whether this machine can.

Measured ratios are in benchmarks/README.md; nothing here changes a result beyond rounding.
"""

import functools
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass

LARGE_PRODUCT = 1_000_000
"""Multiplications from which a matrix product repays the call of an operator of our own (about 10 microseconds)."""


def available(device: torch.device) -> bool:
    """Whether there is a compiler for the device: a C++ compiler for a CPU, Triton for CUDA."""
    if device.type == "cpu":
        return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))
    return importlib.util.find_spec("triton") is not None


def compiled(step: Callable, device: torch.device) -> Callable:
    """The step as one graph of static shapes; the code is kept on disk, for later processes too."""
    torch.compiler.reset()  # all steps share their code, and eight variants of it are the compiler's limit
    options = {}
    if device.type == "cuda":
        options["triton.cudagraphs"] = True  # one launch a step instead of one a kernel
    elif onednn_is_faster():
        options["post_grad_custom_post_pass"] = OneDnnProducts()
    return torch.compile(step, fullgraph=True, dynamic=False, options=options)


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


_library = torch.library.Library("dwfbench", "DEF")
_library.define("product(Tensor a, Tensor b) -> Tensor")


@torch.library.impl(_library, "product", "CPU")
def _product(a: Tensor, b: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")


@torch.library.register_fake("dwfbench::product")
def _product_shape(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


class OneDnnProducts(CustomGraphPass):
    """Computes the step's large float32 matrix products in oneDNN, with the same float32 arithmetic as MKL's."""

    def __call__(self, graph: torch.fx.Graph) -> None:
        mm, addmm = torch.ops.aten.mm.default, torch.ops.aten.addmm.default
        for node in [
            *graph.find_nodes(op="call_function", target=mm),
            *graph.find_nodes(op="call_function", target=addmm),
        ]:
            *bias, a, b = node.args
            left, right = a.meta["val"], b.meta["val"]
            if left.dtype != torch.float32 or left.numel() * right.shape[1] < LARGE_PRODUCT or node.kwargs:
                continue
            with graph.inserting_before(node):
                result = graph.call_function(torch.ops.dwfbench.product.default, (a, b))
                result.meta["val"] = node.meta["val"]
                if bias:
                    result = graph.call_function(torch.ops.aten.add.Tensor, (result, *bias))
                    result.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(result)
            graph.erase_node(node)

    def uuid(self) -> str:
        """What cached code is valid for: this pass, in this version."""
        return f"dwfbench.OneDnnProducts.1.{LARGE_PRODUCT}"
