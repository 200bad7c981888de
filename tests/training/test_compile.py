"""The compiler's settings: what it may change, and what it must not."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

import dwfbench.training.onednn  # noqa: F401  (makes the operator known)
from dwfbench.training import compile as compiler
from tests.training.test_loop import NORM, run, spec

needs_compiler = pytest.mark.skipif(not compiler.available(torch.device("cpu")), reason="no C++ compiler")
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@needs_onednn
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_onednn_s_product_is_the_product(transposed):
    """Of any layout; float32's rounding over 700 terms."""
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(128, 700, generator=random), torch.randn(700, 300, generator=random)
    a, b = (x.t().contiguous().t() if flip else x for x, flip in zip((a, b), transposed, strict=True))
    exact = a.double() @ b.double()
    error = (torch.ops.dwfbench.product(a, b).double() - exact).abs() / (a.double().abs() @ b.double().abs())
    assert error.max() < 700 * torch.finfo(torch.float32).eps / 8


@needs_compiler
@needs_onednn
def test_large_products_of_a_compiled_step_go_to_onednn_and_small_ones_do_not(monkeypatch):
    from torch._inductor.utils import run_and_get_code

    monkeypatch.setattr(compiler, "onednn_is_faster", lambda: True)

    def step(x, w, v, bias):
        hidden = torch.addmm(bias, x, w).relu()
        return hidden @ v, (hidden.bfloat16() @ w.bfloat16().t()).float()

    random = torch.Generator().manual_seed(0)
    sizes = ((128, 200), (200, 300), (300, 10), (300,))
    tensors = [torch.randn(size, generator=random) for size in sizes]
    found, code = run_and_get_code(compiler.compiled(step, torch.device("cpu")), *tensors)
    (mine, _), (other, _) = found, step(*tensors)
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-3)
    assert sum(text.count("dwfbench.product.default(") for text in code) == 1  # neither the small nor the bfloat16 one


def test_a_machine_without_a_c_compiler_has_none(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not compiler.available(torch.device("cpu"))


def test_torch_s_compiler_is_imported_by_none_who_only_plan():
    code = "import sys, dwfbench.training.loop; from dwfbench import models; "
    code += "models.build('lenet-5', (1, 28, 28), 10, 0); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 0


@pytest.mark.parametrize(("method", "knob"), [("dwf", {"strength": 1e-3}), ("snip", {"compression": 4.0})])
def test_a_compiled_step_writes_only_to_tensors_whose_memory_stays(monkeypatch, method, knob):
    """Else there would be no CUDA graph of it, which would be said nowhere."""
    from torch._dynamo.backends.common import aot_autograd

    seen = []

    def look(graph, inputs):
        places = [node for node in graph.graph.nodes if node.op == "placeholder"]
        writes = [node.args[0] for node in graph.graph.nodes if node.target == torch.ops.aten.copy_.default]
        stay = torch._guards.TracingContext.get().fw_metadata.static_input_indices
        seen.append(({places.index(node) for node in writes}, set(stay)))
        return graph.forward

    backend = aot_autograd(fw_compiler=look, keep_inference_input_mutations=True)
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, options, **more: compile(step, backend=backend, **more))
    specs = [spec(method, model=NORM, seed=seed, epochs=2, **knob) for seed in (0, 1)]
    run(*specs, compile=True)
    ((written, staying),) = seen
    assert len(written) >= 8  # weights, biases, their momentum and BatchNorm's statistics, at least
    assert written <= staying


@pytest.mark.long
@pytest.mark.slow
@needs_compiler
def test_the_beginning_of_a_library_that_a_killed_process_left_is_built_again(tmp_path):
    """Torch links a library where it keeps it, and loads what lies there."""
    code = "import torch; from dwfbench.training.compile import compiled; "
    code += "step = compiled(lambda x: (x.sin() + 1).relu(), torch.device('cpu')); "
    code += "print(step(torch.zeros(64)).tolist() == 64 * [1.0])"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}

    def process():
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)

    assert process().stdout == "True\n"
    libraries = list(tmp_path.rglob("*.so"))
    assert libraries
    for library in libraries:
        os.truncate(library, 16)
    again = process()
    assert again.stdout == "True\n", again.stderr
    assert sorted(tmp_path.rglob("*.so")) == sorted(libraries)


def test_an_error_that_names_no_library_is_raised_at_once(monkeypatch):
    calls = []

    def failing(*arguments):
        calls.append(arguments)
        raise RuntimeError("/elsewhere/of/others.so: file too short")

    monkeypatch.setattr(torch, "compile", lambda step, **options: failing)
    with pytest.raises(RuntimeError, match="file too short"):
        compiler.compiled(abs, torch.device("cpu"))(1)
    assert calls == [(1,)]
