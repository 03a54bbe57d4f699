from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from segnext.benchmark.measuring import Timing
from segnext.benchmark.profiling import Machine, OperatorKind, kind_of
from segnext.benchmark.session import Row
from segnext.benchmark.summary import operators_table, results_table
from segnext.files import strict_json

MACHINE = Machine(bytes_per_second=10e9, macs_per_second=40e9)
ROW = Row(
    "inference",
    "torch channels_last",
    Timing((12.5, 12.0, 13.0), 64),
    peak_bytes=12 << 30,
    macs=100_000_000_000,
    bytes=25e9,
    ratio=0.55,
)


def _printed(table: object) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_work_is_compared_with_what_the_machine_can_do() -> None:
    assert ROW.fractions(MACHINE) == pytest.approx((0.2, 0.2))
    assert Row("data", "NumPy", Timing((1.0,), 8)).fractions(MACHINE) == (None, None)


def test_the_tables_fit_into_80_columns() -> None:
    text = _printed(results_table([ROW], MACHINE))
    for cell in ("inference", "torch channels_last", "12500", "5.12", "4 %", "12.00", "20 %", "0.55"):
        assert cell in text
    assert "…" not in text
    kinds = [OperatorKind("elementwise", 900, 0.3, 1e9), OperatorKind("convolution, forward", 75, 0.1, 1e9)]
    text = _printed(operators_table("train", kinds, MACHINE))
    assert "75 %" in text
    assert "100 %" in text  # 1 GB in 0.1 s at 10 GB/s


def test_a_record_is_json_with_every_round() -> None:
    record = json.loads(strict_json(ROW.record(MACHINE)))
    assert record["timing"]["seconds"] == [12.5, 12.0, 13.0]
    assert record["images_per_second"] == 5.12


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mkl_conv«Txd:float32", "convolution, forward"),
        ("mkl_conv_backward_w«Txd:float32", "convolution, backward"),
        ("code«HEADER:// Convolution on the CPU«CODE:segnext::convolve(in0_p", "convolution, forward"),
        ("code«HEADER:// Convolution on the CPU«CODE:segnext::input_gradient(in0_p", "convolution, backward"),
        ("code«IN_SIZE:3«HEADER:// Depthwise convolution on the CPU", "depthwise convolution"),
        ("code«HEADER:// Non-negative«CODE:segnext::factorise_gradient(in0_p", "matrix products (NMF)"),
        ("code«HEADER:// Depthwise convolution on the CPU«CODE:segnext::mix_gradient(in0_p", "MLP, second half"),
        ("cublas_batched_matmul«T:float32", "matrix products (NMF)"),
        ("code«HEADER:// The depthwise«CODE:segnext::multi_scale_depthwise_gradient(in0_p", "depthwise convolution"),
        ("code«HEADER:// A step«CODE:segnext::launch(segnext::AdamW{in0_p", "AdamW"),
        ("code«HEADER:// Cross-entropy«CODE:segnext::cross_entropy(in0_p", "loss"),
        ("code«HEADER:// Bilinear resize«CODE:segnext::resize(in0_p", "resize"),
        (
            "«opkey0:broadcast_to«Tx:float32«DIM=4«BCAST=d«opkey1:binary«opkey2:reduce«OP:add",
            "reductions (norms, softmax)",
        ),
        ("«opkey0:reindex_reduce«OP:add", "gather, scatter"),
        ("code«CODE:const segnext::Norm norm{segnext::input_gradient(in0_p", "norms"),
        ("«opkey0:binary«OP:add", "elementwise"),
    ],
)
def test_operators_are_told_apart_by_their_names(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_the_better_of_two_measurements_is_the_machine() -> None:
    assert MACHINE.best(Machine(20e9, 30e9)) == Machine(20e9, 40e9)
