"""The fused kernel. Three ways to check it, by what a machine has:

- always: its arguments, and how it cuts utterances into tiles and groups;
- where Triton is installed: the kernels in Triton's interpreter against SeqSim's specification, and compiled ahead
  of time for several GPUs (neither needs one);
- on a GPU (marked ``gpu``): the same comparisons, there.

Triton reads ``TRITON_INTERPRET`` when a kernel is defined, so kernels run in a child: this file as a script.
"""

import inspect
import os
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from interlingua.errors import UsageError
from interlingua.retrieval import seqsim_cuda as fused
from interlingua.retrieval.reference import seqsim_pair
from interlingua.retrieval.seqsim import seqsim_both

Case = tuple[list[torch.Tensor], list[torch.Tensor]]
fused_both = inspect.unwrap(fused.fused_both)  # without the run-time check of shapes, which would speak first
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-4, torch.bfloat16: 2e-3}
CAPABILITIES = {80: 163, 89: 99, 90: 227}  # KiB of shared memory that a program may use


def unit(*lengths: int, dim: int, sign: int = 0, seed: int = 0, dtype: torch.dtype = torch.float32) -> list:
    """Random unit rows; all their values positive or negative where ``sign`` says so."""
    rng = np.random.default_rng([seed, dim, *lengths])
    frames = [torch.from_numpy(rng.normal(size=(n, dim)).astype(np.float32)) for n in lengths]
    frames = [u.abs() * sign if sign else u for u in frames]
    return [(u / u.norm(dim=1, keepdim=True)).to(dtype) for u in frames]


def some_zeros() -> Case:
    """Rows of zeros among rows that are all unlike: there zero is the best similarity."""
    queries, candidates = unit(5, 70, 2, dim=20, sign=1), unit(66, 2, dim=20, sign=-1)
    queries[1][3:6] = candidates[0][65] = 0
    queries[2][:] = 0
    return queries, candidates


def not_numbers() -> Case:
    queries, candidates = unit(5, 70, 2, dim=20), unit(66, 2, 130, dim=20, seed=1)
    queries[1][69, 3] = candidates[2][129, 0] = torch.nan
    return queries, candidates


RAGGED = (1, 63, 64, 65, 129), (3, 1, 130, 64)  # around the size of one tile and two
SMALL: dict[str, Case] = {  # for the plain loops
    **{
        f"ragged {dtype}": (unit(*RAGGED[0], dim=20, dtype=dtype), unit(*RAGGED[1], dim=20, seed=1, dtype=dtype))
        for dtype in TOLERANCE
    },
    **{f"width {dim}": (unit(3, 2, dim=dim), unit(2, 4, dim=dim, seed=1)) for dim in (1, 5, 31, 32, 33, 100)},
    "one frame": (unit(1, dim=7), unit(1, dim=7, seed=1)),
    "all negative": (unit(5, 70, dim=20, sign=1), unit(66, 2, dim=20, sign=-1)),
    "zero rows": some_zeros(),
}
LARGE: dict[str, Case] = {  # for `seqsim_both`
    **{f"Whisper's {dim}": (unit(70, dim=dim), unit(65, dim=dim, seed=1)) for dim in (384, 512, 768, 1024, 1280)},
    **{
        f"several windows {dtype}": (
            unit(1600, 7, dim=384, dtype=dtype),
            unit(1, 140, dim=384, seed=1, dtype=dtype),
        )
        for dtype in TOLERANCE
    },
    "not numbers": not_numbers(),
}


def run_kernels(device: str) -> dict[str, list[np.ndarray]]:
    """Precision and recall of every case, and of one in groups of a single tile."""
    cases = {**SMALL, **LARGE}
    scores = {name: _both(*case, device) for name, case in cases.items()}
    fused.SCRATCH_FLOATS = 1
    return {**scores, "in groups": _both(*cases["ragged torch.float32"], device)}


def _both(queries: list, candidates: list, device: str) -> list[np.ndarray]:
    sides = [(torch.cat(side).to(device), [len(u) for u in side]) for side in (queries, candidates)]
    found = fused.fused_both(*sides[0], *sides[1])
    assert all(m.dtype == torch.float32 and m.device.type == device for m in found)
    return [m.cpu().numpy() for m in found]


def compile_kernels() -> dict[tuple[int, str], dict[str, int | str]]:
    """Shared memory and PTX of the kernel by capability and type; the machine code must come out too."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def build(kernel, capability: int, types: dict[str, str], options: dict, **constants: int):
        signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
        aligned = [["tt.divisibility", 16]]  # what the launch finds in every pointer that torch hands it
        attributes = {(i,): aligned for i, t in enumerate(signature.values()) if t.startswith("*")}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
        built = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert built.asm["cubin"]
        return {"shared": built.metadata.shared, "ptx": built.asm["ptx"]}

    floats = dict.fromkeys(("row_sums", "column_maxima", "precision", "recall"), "*fp32")
    indices = dict.fromkeys(("tiles", "query_tiles", "candidate_ends"), "*i64")
    found = {}
    for capability in CAPABILITIES:
        build(fused._sum_over_tiles, capability, {**floats, **indices}, {}, frames=256)
        build(fused._sum_over_tiles, capability, {**floats, **indices}, {}, frames=256, n_queries=1, n_candidates=1)
        for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
            blocks = asdict(fused.BLOCKS[dtype])
            options = {knob: blocks.pop(knob) for knob in ("num_warps", "num_stages")}
            types = {**floats, **indices, "queries": f"*{name}", "candidates": f"*{name}"}
            # A launch compiles anew for counts of one.
            build(fused._tile_maxima, capability, types, options, depth=500, n_tiles=1, n_candidates=1, **blocks)
            found[capability, name] = build(fused._tile_maxima, capability, types, options, depth=512, **blocks)
    return found


def in_child(task: str, out: Path, interpret: bool = False):
    """Run one of the two functions above in a process of its own."""
    env = {**os.environ, "TRITON_CACHE_DIR": str(out.with_suffix(".cache")), "TRITON_INTERPRET": str(int(interpret))}
    run = subprocess.run([sys.executable, __file__, task, str(out)], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return torch.load(out, weights_only=False)


@pytest.fixture(
    scope="module",
    params=[pytest.param("cpu", marks=needs_triton, id="interpreter"), pytest.param("cuda", marks=pytest.mark.gpu)],
)
def scores(request, tmp_path_factory) -> dict[str, list[np.ndarray]]:
    """What `run_kernels` gives, in the interpreter and on a GPU."""
    if request.param == "cuda" and not fused.available():
        pytest.skip("needs Triton and a CUDA device")
    return in_child(request.param, tmp_path_factory.mktemp("fused") / "scores.pt", interpret=request.param == "cpu")


# ---------------------------------------------------------------- the kernels, interpreted or on a GPU


@pytest.mark.parametrize("case", SMALL)
def test_equals_the_specification(scores, case):
    queries, candidates = SMALL[case]
    for found, direction in zip(scores[case], ("precision", "recall"), strict=True):
        expected = [[seqsim_pair(q.float().numpy(), c.float().numpy())[direction] for c in candidates] for q in queries]
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[queries[0].dtype])


@pytest.mark.parametrize("case", LARGE)
def test_equals_the_fast_version(scores, case):
    queries, candidates = LARGE[case]
    for found, expected in zip(scores[case], seqsim_both(queries, candidates), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[queries[0].dtype])


def test_only_utterances_with_frames_that_are_not_numbers_score_none(scores):
    expected = [[False, False, True], [True, True, True], [False, False, True]]
    for found in scores["not numbers"]:
        assert np.isnan(found).tolist() == expected


def test_groups_of_queries_change_no_bit(scores):
    np.testing.assert_array_equal(scores["in groups"], scores["ragged torch.float32"])


def test_all_negative_similarities_stay_negative():
    """The case above would notice a mask of zeros: every right answer is far below zero."""
    assert max(m.max() for m in seqsim_both(*SMALL["all negative"])) < -100 * TOLERANCE[torch.float32]


# ---------------------------------------------------------------- compiled ahead of time


@needs_triton
def test_compiles_for_gpus_without_one(tmp_path):
    """Down to machine code: within the shared memory, tensor cores in half precision, no TF32 in float32."""
    compiled = in_child("compile", tmp_path / "compiled.pt")
    assert len(compiled) == 3 * len(CAPABILITIES)
    for (capability, dtype), kernel in compiled.items():
        assert kernel["shared"] <= CAPABILITIES[capability] * 1024
        assert ".tf32" not in kernel["ptx"]
        assert (f".f32.{dtype.replace('fp', 'f')}." in kernel["ptx"]) == (dtype != "fp32")  # [wg]mma's operands
        assert ("fma.rn.f32" in kernel["ptx"]) == (dtype == "fp32")


# ---------------------------------------------------------------- tiles and groups


@pytest.mark.parametrize("lengths", [[1], [4], [5], [3, 4, 5, 1, 9, 8]])
def test_tiles_cover_every_frame_once_and_no_two_utterances(lengths):
    tiles, counts = fused._tiles(lengths, 4)
    assert [row for start, end in tiles for row in range(start, end)] == list(range(sum(lengths)))
    assert all(1 <= end - start <= 4 for start, end in tiles)
    assert [sum(end - start for start, end in tiles[a:b]) for a, b in pairwise(counts)] == lengths


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 100])
def test_groups_are_whole_utterances_of_few_tiles(most):
    lengths = [3, 4, 5, 1, 9, 8]  # 1, 1, 2, 1, 3 and 2 tiles of 4
    groups = list(fused._groups(lengths, 4, most))
    assert [i for a, b in groups for i in range(a, b)] == list(range(len(lengths)))
    for a, b in groups:
        tiles = len(fused._tiles(lengths[a:b], 4)[0])
        assert tiles <= most or b == a + 1
        assert b == len(lengths) or tiles + -(-lengths[b] // 4) > most  # the next one would not have fitted


# ---------------------------------------------------------------- arguments


def test_no_queries_or_no_candidates_give_an_empty_matrix():
    frames, none = torch.ones(5, 3), torch.ones(0, 3)
    assert [m.shape for m in fused_both(none, [], frames, [2, 3])] == [(0, 2), (0, 2)]
    assert [m.shape for m in fused_both(frames, [2, 3], none, [])] == [(2, 0), (2, 0)]


@pytest.mark.parametrize("side", ["queries", "candidates"])
@pytest.mark.parametrize(
    ("frames", "lengths", "message"),
    [
        (torch.ones(5, 3), [5, 0], "an utterance has 0 frames"),
        (torch.ones(5, 3), [6, -1], "an utterance has -1 frames"),
        (torch.ones(5, 3), [2, 2], "the lengths add up to 4, but there are 5 frames"),
        (torch.ones(5, 3), [], "the lengths add up to 0, but there are 5 frames"),
        (torch.ones(5), [5], r"frames are \(T, D\).*not \(5,\) of torch.float32"),
        (torch.ones(5, 3, dtype=torch.float64), [5], r"frames are .* not \(5, 3\) of torch.float64"),
    ],
)
def test_wrong_frames_and_lengths_are_refused(side, frames, lengths, message):
    sides = {"queries": (torch.ones(2, 3), [2]), "candidates": (torch.ones(2, 3), [2]), side: (frames, lengths)}
    with pytest.raises(ValueError, match=f"{side}: {message}"):
        fused_both(*sides["queries"], *sides["candidates"])


def test_sides_that_dont_fit_are_refused():
    with pytest.raises(ValueError, match="frames are 3 and 4 wide"):
        fused_both(torch.ones(2, 3), [2], torch.ones(2, 4), [2])
    with pytest.raises(ValueError, match=r"queries are torch\.float32 on cpu and candidates torch\.float16 on cpu"):
        fused_both(torch.ones(2, 3), [2], torch.ones(2, 3, dtype=torch.float16), [2])


def test_frames_on_the_cpu_are_refused_with_the_way_out(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UsageError, match="elsewhere use seqsim_both"):
        fused_both(torch.ones(2, 3), [2], torch.ones(2, 3), [2])


def test_without_triton_the_module_imports_and_says_so():
    program = "import sys; sys.modules['triton'] = None; from interlingua.retrieval import seqsim_cuda as fused; "
    run = subprocess.run([sys.executable, "-c", program + "print(fused.available())"], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr


if __name__ == "__main__":
    task, out = sys.argv[1:]
    torch.save(compile_kernels() if task == "compile" else run_kernels(task), out)
