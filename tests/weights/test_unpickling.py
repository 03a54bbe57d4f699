"""Pickles build data and nothing else, whatever they ask for."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict, defaultdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segnext.errors import WeightsError
from segnext.weights.lazy_arrays import StoredArray
from segnext.weights.pickle_names import Opaque
from segnext.weights.unpickling import DataUnpickler

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def load(program: bytes) -> Any:
    return DataUnpickler(io.BytesIO(program), origin="some.pkl").load()


class Reduced:
    """Pickles as a call: function, arguments, then whatever else ``__reduce__`` may return."""

    def __init__(self, *reduction: Any) -> None:
        self.reduction = reduction

    def __reduce__(self) -> Any:
        return self.reduction


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file that the malicious pickles of this page would create."""
    return tmp_path / "executed"


def system(trace: Path) -> Reduced:
    return Reduced(os.system, (f"touch {trace}",))


def assert_refused(program: bytes, trace: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=name) as caught:
        load(program)
    assert "some.pkl" in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_back_bit_for_bit(protocol: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "float32": rng.standard_normal((3, 4), np.float32),
        "fortran": np.asfortranarray(rng.standard_normal((3, 4))),
        "big_endian": np.arange(5, dtype=">i4"),
        "half": np.array([0.5, -2.0], np.float16),
        "scalar": np.array(7.0, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "bool": np.array([True, False]),
    }
    loaded = load(pickle.dumps(arrays, protocol))
    for name, array in arrays.items():
        assert loaded[name].shape == array.shape
        read = loaded[name].read()
        assert read.shape == array.shape
        assert read.dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(read, array)
        assert read.flags.c_contiguous


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_come_back_as_they_were(protocol: int) -> None:
    data = {"a": [1, 2.5, None, True, "text", b"\x00\xff"], "b": (1, (2, {3})), "c": bytearray(b"xy"), 4: {}}
    assert load(pickle.dumps(data, protocol)) == data


@pytest.mark.parametrize("protocol", [2, 4])
def test_numpy_scalars_become_numbers_and_special_dicts_plain_ones(protocol: int) -> None:
    ordered = OrderedDict(a=np.float32(0.5), b=np.int64(-3), c=np.bool_(True), d=np.str_("x"))
    ordered.kind = "attributes are dropped"  # type: ignore[attr-defined]
    grouped: dict[str, Any] = defaultdict(dict, e={"f": 1})
    loaded = load(pickle.dumps([ordered, grouped], protocol))
    assert loaded == [{"a": 0.5, "b": -3, "c": True, "d": "x"}, {"e": {"f": 1}}]
    assert [type(item) for item in loaded] == [dict, dict]


def test_shared_and_cyclic_data_end() -> None:
    shared: Any = ()
    for _ in range(60):  # 2^60 leaves if it were walked as a tree
        shared = (shared, shared)
    cycle: list[Any] = [shared]
    cycle.append(cycle)
    loaded = load(pickle.dumps(cycle))
    assert loaded[1] is loaded


@pytest.mark.parametrize("protocol", [2, 4])
def test_known_company_of_weights_is_swallowed_unseen(protocol: int) -> None:
    meta = {"time": datetime(2024, 5, 17, tzinfo=timezone.utc), "folder": Path("work_dirs"), "iter": 160000}
    loaded = load(pickle.dumps(meta, protocol))
    assert loaded["iter"] == 160000
    assert isinstance(loaded["time"], Opaque)
    assert isinstance(loaded["folder"], Opaque)


def test_mmengines_history_buffers_are_swallowed_with_their_methods() -> None:
    history = b"cmmengine.logging.history_buffer\nHistoryBuffer\n"
    method = b"c__builtin__\ngetattr\n(" + history + b"S'mean'\ntR"
    program = b"(dS'loss'\n" + history + b"(tR(dS'methods'\n" + method + b"sbs."
    assert list(load(program)) == ["loss"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_shell_command_is_refused(protocol: int, trace: Path) -> None:
    assert_refused(pickle.dumps(system(trace), protocol), trace, f"{os.name}.system")


def test_a_command_hidden_beside_the_weights_is_refused(trace: Path) -> None:
    checkpoint = {
        "state_dict": OrderedDict(a=np.ones(2, np.float32)),
        "optimizer": {"state": [{"step": (1, OrderedDict(x=[system(trace)]))}]},
    }
    assert_refused(pickle.dumps(checkpoint, 2), trace, r"posix\.system")


def test_a_command_as_argument_of_an_allowed_call_is_refused(trace: Path) -> None:
    assert_refused(pickle.dumps(Reduced(OrderedDict, (system(trace),))), trace, r"posix\.system")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "__import__"),
        ("builtins", "open"),
        ("__builtin__", "eval"),
        ("os", "system"),
        ("subprocess", "Popen"),
        ("pickle", "loads"),
        ("functools", "partial"),
        ("operator", "attrgetter"),
        ("copyreg", "_reconstructor"),
        ("copyreg", "__newobj__"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch", "FloatStorage.from_file"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.f2py.crackfortran", "myeval"),
        ("numpy", "ndarray.tofile"),
        ("pathlib", "Path.unlink"),
        ("jittor", "load"),
        ("collections", "OrderedDict.__init__.__globals__"),
    ],
)
def test_any_name_outside_the_list_is_refused(module: str, name: str) -> None:
    # protocol 4 names with STACK_GLOBAL, which also reaches attributes of attributes
    named = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
    for program in (f"c{module}\n{name}\n(S'1'\ntR.".encode(), b"\x80\x04" + named + b"\x93."):
        with pytest.raises(WeightsError, match="refused to build") as caught:
            load(program)
        assert f"{module}.{name}" in str(caught.value)


def test_a_numpy_scalar_of_objects_is_refused(trace: Path) -> None:
    gadget = Reduced(np.core.multiarray.scalar, (np.dtype("O"), pickle.dumps(system(trace))))
    assert_refused(pickle.dumps(gadget), trace, "dtype")


def test_an_array_of_objects_is_refused_before_its_elements_are_built(trace: Path) -> None:
    array = np.array([None], dtype=object)
    array[0] = system(trace)
    assert_refused(pickle.dumps({"a": array}), trace, "refused")


def test_a_dtype_with_fields_is_refused() -> None:
    assert_refused(pickle.dumps(np.dtype([("a", "f4"), ("b", "O")])), Path("-"), "dtype")
    crafted = b"cnumpy\ndtype\n(S'f4'\nI00\nI01\ntR(I3\nS'<'\nN(S'a'\nt}I8\nI4\nI63\ntb."
    assert_refused(crafted, Path("-"), "dtype with fields")


@pytest.mark.parametrize("target", [b"ccollections\nOrderedDict\n", b"cnumpy\ndtype\n", b"ctorch\nFloatStorage\n"])
def test_attributes_of_the_allowed_calls_cannot_be_changed(target: bytes) -> None:
    with pytest.raises(WeightsError, match="refused to build a change"):
        load(target + b"(dS'call'\nI1\nsb.")


def test_a_stand_in_class_cannot_be_changed() -> None:
    with pytest.raises(WeightsError):
        load(b"cargparse\nNamespace\n(N}S'append'\nI1\nstb.")
    assert callable(Opaque.append)


def test_getattr_reaches_nothing_but_stand_ins() -> None:
    with pytest.raises(WeightsError, match=r"builtins\.getattr"):
        load(b"c__builtin__\ngetattr\n(ccollections\nOrderedDict\nS'__init__'\ntR.")


def test_a_jittor_variable_is_its_array() -> None:
    rebuilt = pickle.dumps(np.arange(3, dtype=np.float32), 2)[2:-1]
    loaded = load(b"\x80\x04\x8c\x06jittor\x8c\x0fjittor_core.Var\x93" + rebuilt + b"\x85R.")
    assert isinstance(loaded, StoredArray)
    assert loaded.read().tolist() == [0, 1, 2]


@pytest.mark.parametrize("program", [b"", b"\x80\x04garbage", pickle.dumps({"a": np.ones(99)})[:-40]])
def test_a_damaged_pickle_is_named_with_its_cure(program: bytes) -> None:
    with pytest.raises(WeightsError, match=r"some\.pkl is damaged or not a weights file.*get it again"):
        load(program)


def test_a_reference_to_outside_data_is_refused_where_there_is_none() -> None:
    with pytest.raises(WeightsError, match="outside"):
        load(b"Psomewhere\n.")
