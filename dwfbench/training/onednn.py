"""Large float32 matrix products by oneDNN, in the place of those of a compiled step.

A pass over Inductor's graph, and an operator of our own because Inductor keeps oneDNN's for constant weights.
"""

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass

LARGE_PRODUCT = 1_000_000
"""Multiplications from which a matrix product repays the call of an operator of our own (about 10 microseconds)."""

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
