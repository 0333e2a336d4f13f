"""save: what is written is what was there, whole or not at all, for every reader of the format."""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
import safetensors
import safetensors.numpy
from child import output_of
from hypothesis import given, settings
from hypothesis import strategies as st

import jscope as js
from jscope import errors
from jscope.io import _shards, _write
from jscope.io._dtypes import SAFETENSORS

NUMPYS = ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "c8", "u8", "i8", "f8", "c16"]

FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda a: a,
    "transposed": lambda a: a.T,
    "axes moved": lambda a: np.moveaxis(a, 0, 1),
    "every second": lambda a: a[::2],
    "every second column": lambda a: a[:, ::2],
    "backwards": lambda a: a[::-1, :, ::-1],
    "in Fortran's order": np.asfortranarray,
    "broadcast": lambda a: np.broadcast_to(a[0], (3, *a[0].shape)),
    "one element": lambda a: a[1, 2, 3],
    "0-d": lambda a: a[1, 2, 3, ...],
    "empty": lambda a: a[:, :0],
    "empty, and backwards": lambda a: a[:0, ::-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype),
    "of the other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "of the other byte order, transposed": lambda a: a.astype(a.dtype.newbyteorder()).T,
    "not aligned": lambda a: unaligned(a),
}


def unaligned(array: np.ndarray) -> np.ndarray:
    moved = np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:]
    return moved.view(array.dtype).reshape(array.shape)


def example(dtype: Any) -> np.ndarray:
    """An array of every bit pattern that fits: NaN with payloads, infinities, subnormals."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return np.arange(60).reshape(3, 4, 5) % 3 == 0
    random = np.random.default_rng(0)
    return random.integers(0, 256, 60 * dtype.itemsize, np.uint8).view(dtype).reshape(3, 4, 5)


def bits(array: Any) -> bytes:
    array = np.asarray(array)
    return array.astype(array.dtype.newbyteorder("="), copy=False).tobytes()


def assert_same(checkpoint: js.io.Checkpoint, wanted: dict[str, Any]) -> None:
    """Equal names, shapes, dtypes and bits."""
    assert set(checkpoint) == set(wanted)
    for name, value in wanted.items():
        found, array = checkpoint[name], np.asarray(value)
        assert found.shape == checkpoint.shapes[name] == array.shape, name
        assert found.dtype == checkpoint.dtypes[name] == array.dtype.newbyteorder("="), name
        assert found.dtype.isnative
        assert not found.flags.writeable
        assert found.tobytes() == bits(array), name


@pytest.mark.parametrize("form", FORMS)
def test_the_package_safetensors_reads_what_was_written(form: str, tmp_path: Path) -> None:
    arrays = {f"net/{word}": FORMS[form](example(dtype)) for word, dtype in SAFETENSORS.items()}
    path = tmp_path / "a.safetensors"
    js.io.save(path, arrays)
    theirs = dict(safetensors.deserialize(path.read_bytes()))
    assert theirs.keys() == arrays.keys()
    for name, found in theirs.items():
        assert found["dtype"] == name.removeprefix("net/")
        assert tuple(found["shape"]) == arrays[name].shape
        assert bytes(found["data"]) == bits(arrays[name])
    assert_same(js.io.open(path), arrays)


@pytest.mark.parametrize("form", FORMS)
def test_numpy_reads_what_was_written(form: str, tmp_path: Path) -> None:
    arrays = {f"net/{code}": FORMS[form](example(code)) for code in NUMPYS}
    path = tmp_path / "a.npz"
    js.io.save(path, arrays)
    with np.load(path) as theirs:
        assert theirs.files == list(arrays)
        for name in theirs.files:
            found = theirs[name]
            assert found.shape == np.shape(arrays[name])
            assert found.dtype == arrays[name].dtype.newbyteorder("=")
            assert found.tobytes() == bits(arrays[name])
    assert_same(js.io.open(path), arrays)


def test_a_file_of_one_dtype_is_byte_for_byte_that_of_the_package(tmp_path: Path) -> None:
    arrays = {"b/w": np.ones([2, 3], np.float32), "a/w": np.zeros(5, np.float32)}
    js.io.save(tmp_path / "a.safetensors", arrays, metadata={"format": "jax"})
    theirs = safetensors.numpy.save(arrays, metadata={"format": "jax"})
    assert (tmp_path / "a.safetensors").read_bytes() == theirs


def test_tensors_lie_aligned_in_both_formats(tmp_path: Path) -> None:
    arrays = {f"{code}/{'x' * size}": example(code) for code in NUMPYS for size in range(4)}
    del arrays["?/"], arrays["i1/x"]
    kept = {name: array for name, array in arrays.items() if "c16" not in name}
    js.io.save(tmp_path / "a.safetensors", kept)
    js.io.save(tmp_path / "a.npz", arrays)
    for path in ("a.safetensors", "a.npz"):
        for name, array in js.io.open(tmp_path / path).items():
            base: Any = array
            while isinstance(base, np.ndarray):
                base = base.base
            assert isinstance(base, memoryview), f"{name} was copied"


class Slots(NamedTuple):
    mu: Any
    nu: Any


TREES: dict[str, tuple[Any, dict[str, Any]]] = {
    "nothing": ({}, {}),
    "params": (js.Params({"a": {"w": np.ones(2)}}), {"a/w": np.ones(2)}),
    "an empty scope": ({"a": {}, "b": {"w": 1.0}}, {"b/w": 1.0}),
    "flat names": (
        {"w": 1.0, "w/Adam": 2.0, "w/Adam_1": 3.0},
        {"w": 1.0, "w/Adam": 2.0, "w/Adam_1": 3.0},
    ),
    "other mappings": (
        OrderedDict(z=MappingProxyType({"w": 1.0}), a=optax.EmptyState()),
        {"z/w": 1.0},
    ),
    "lists": ({"a": [1.0, (2.0, [3.0])]}, {"a/0": 1.0, "a/1/0": 2.0, "a/1/1/0": 3.0}),
    "keys that are numbers": ({0: {10: 1.0}}, {"0/10": 1.0}),
    "named tuples": (Slots({"w": 1.0}, {"w": 2.0}), {"mu/w": 1.0, "nu/w": 2.0}),
    "None among arrays": ({"a": None, "b": 1.0}, {"b": 1.0}),
    "scalars": (
        {"a": True, "b": 3, "c": 0.1, "d": np.float32(3), "e": np.bool_(False)},
        {"a": True, "b": 3, "c": 0.1, "d": np.float32(3), "e": np.bool_(False)},
    ),
    "arrays of JAX": (
        {"w": jnp.ones([2, 3], jnp.bfloat16), "n": jnp.int32(3)},
        {"w": np.ones([2, 3], ml_dtypes.bfloat16), "n": np.int32(3)},
    ),
    "odd names": (
        {"ö/\n": {'"\\': 1.0}, "\0\x7f": 2.0, "🙂": 3.0, "a//": 4.0},
        {'ö/\n/"\\': 1.0, "\0\x7f": 2.0, "🙂": 3.0, "a//": 4.0},
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_what_is_opened_is_what_was_saved(name: str, tmp_path: Path) -> None:
    tree, wanted = TREES[name]
    path = tmp_path / "a.safetensors"
    js.io.save(path, tree)
    assert_same(js.io.open(path), wanted)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
        st.tuples(
            st.sampled_from([*SAFETENSORS.values()]),
            st.lists(st.integers(0, 3), max_size=4),
        ),
        max_size=6,
    ),
    st.sampled_from([None, 1, 16, 1000]),
)
def test_any_names_and_shapes_come_back(
    tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, Any], most: int | None
) -> None:
    tree = {name: np.ones(shape, dtype) for name, (dtype, shape) in drawn.items()}
    path = tmp_path_factory.mktemp("any") / "a.safetensors"
    js.io.save(path, tree, max_shard_bytes=most, metadata={"a": "\n"})
    found = js.io.open(path)
    assert_same(found, tree)
    assert found.metadata == {"a": "\n"}


def test_the_state_of_an_optimizer_has_names(tmp_path: Path) -> None:
    state = optax.adam(optax.constant_schedule(1e-3)).init(js.Params({"a": {"w": jnp.ones(3)}}))
    js.io.save(tmp_path / "a.npz", state)
    names = ["0/count", "0/mu/a/w", "0/nu/a/w", "1/count"]
    assert sorted(js.io.open(tmp_path / "a.npz")) == names


def test_a_state_without_arrays_can_be_saved(tmp_path: Path) -> None:
    js.io.save(tmp_path / "a.safetensors", optax.sgd(0.1).init({"w": jnp.ones(3)}))
    assert len(js.io.open(tmp_path / "a.safetensors")) == 0


def test_truth_values_of_other_bytes_are_written_as_truth_values(tmp_path: Path) -> None:
    odd = np.array([0, 1, 2, 255], np.uint8).view(np.bool_)
    js.io.save(tmp_path / "a.safetensors", {"w": odd})
    assert js.io.open(tmp_path / "a.safetensors")["w"].tobytes() == b"\0\1\1\1"


def test_arrays_deeper_than_the_stack_of_python_can_be_saved(tmp_path: Path) -> None:
    tree: Any = np.ones(2)
    for _ in range(3000):
        tree = {"a": tree}
    js.io.save(tmp_path / "a.safetensors", tree)
    assert list(js.io.open(tmp_path / "a.safetensors")) == ["/".join(["a"] * 3000)]


def test_a_checkpoint_passes_through_with_its_metadata(tmp_path: Path) -> None:
    tree = {"w": example("f4"), "w/Adam": example("f4"), "n": 3}
    js.io.save(tmp_path / "a.safetensors", tree, metadata={"format": "pt"})
    first = js.io.open(tmp_path / "a.safetensors")
    js.io.save(tmp_path / "b.npz", first)
    assert_same(js.io.open(tmp_path / "b.npz"), tree)
    js.io.save(tmp_path / "c.safetensors", first.drop("w/Adam"))
    assert_same(js.io.open(tmp_path / "c.safetensors"), {"w": tree["w"], "n": 3})
    assert js.io.open(tmp_path / "c.safetensors").metadata == {"format": "pt"}
    js.io.save(tmp_path / "c.safetensors", first, metadata={"a": "b"})
    assert js.io.open(tmp_path / "c.safetensors").metadata == {"a": "b"}
    js.io.save(tmp_path / "d.safetensors", {"ema": first})
    assert list(js.io.open(tmp_path / "d.safetensors")) == ["ema/n", "ema/w", "ema/w/Adam"]


def test_a_checkpoint_can_be_saved_over_itself(tmp_path: Path) -> None:
    tree = {"a": example("f4"), "b": example("i8")}
    path = tmp_path / "a.safetensors"
    js.io.save(path, tree)
    for most in (100, None, 100, 50, None):
        js.io.save(path, js.io.open(path), max_shard_bytes=most)
        assert_same(js.io.open(path), tree)


def test_one_tensor_is_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    js.io.save(tmp_path / "a.safetensors", {"a": 1.0, "b": 2.0})
    order = list[str]()
    reading, writing = js.io.Checkpoint.__getitem__, _write._write_array

    def read(self: js.io.Checkpoint, name: str) -> np.ndarray:
        order.append(f"read {name}")
        return reading(self, name)

    def write(file: Any, array: np.ndarray) -> None:
        order.append("write")
        writing(file, array)

    monkeypatch.setattr(js.io.Checkpoint, "__getitem__", read)
    monkeypatch.setattr(_write, "_write_array", write)
    for name in ("b.safetensors", "b.npz"):
        js.io.save(tmp_path / name, js.io.open(tmp_path / "a.safetensors"))
    assert order == ["read a", "write", "read b", "write"] * 2


def test_pages_of_a_map_are_given_back_while_it_is_copied(tmp_path: Path) -> None:
    code = """
import resource, sys, numpy as np, jscope as js
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
folder = sys.argv[1]
js.io.save(f"{folder}/a.safetensors", {f"{i}": np.broadcast_to(np.float32(i), [2 << 20]) for i in range(16)})
before = peak()
checkpoint = js.io.open(f"{folder}/a.safetensors")
js.io.save(f"{folder}/b.safetensors", checkpoint)
js.io.save(f"{folder}/b.npz", checkpoint)
print(checkpoint.nbytes / 2**20, peak() - before)
"""
    size, grown = (float(word) for word in run(code, str(tmp_path)).split())
    assert size == 128
    assert grown < 64


def run(code: str, *arguments: str, flags: str = "") -> str:
    """What a program prints."""
    environment = {
        "PYTHONPATH": str(Path(js.__file__).parent.parent),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags,
    }
    return output_of("-W", "ignore", "-c", code, *arguments, **environment)


def test_arrays_on_several_devices_are_gathered(tmp_path: Path) -> None:
    code = """
import sys, jax, numpy as np, jscope as js
from jax.sharding import PartitionSpec as P
mesh = jax.make_mesh((2, 2), ("x", "y"))
wide = np.arange(48.0).reshape(4, 12) / 3
with jax.enable_x64(True):
    tree = {str(i): jax.device_put(wide, jax.NamedSharding(mesh, spec))
            for i, spec in enumerate([P("x"), P(None, "y"), P("y", "x"), P(), P(("x", "y"))])}
js.io.save(sys.argv[1], tree)
found = js.io.open(sys.argv[1])
print(all(array.dtype == np.float64 and (array == wide).all() for array in found.values()), len(found))
print(all(array._npy_value is None for array in tree.values()))
"""
    flags = "--xla_force_host_platform_device_count=4"
    printed = run(code, str(tmp_path / "a.safetensors"), flags=flags)
    assert printed.split() == ["True", "5", "True"]


def traced(path: Path) -> None:
    jax.jit(lambda x: js.io.save(path, {"a": {"w": x}}))(jnp.ones(2))


def donated() -> jax.Array:
    array = jnp.ones(2) + 1
    array.delete()
    return array


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (
        None,
        errors.ArgumentError,
        "The tree must be a mapping of names to arrays, or another pytree of arrays, got None of "
        "type NoneType.\n  fix:    give an array a name, {'w': array}.",
    ),
    "nothing but None": (
        {"a": None},
        errors.ArgumentError,
        "The tree must be a mapping of names to arrays, or another pytree of arrays, got "
        "{'a': None} of type dict.\n  fix:    give an array a name, {'w': array}.",
    ),
    "a bare array": (
        np.ones([2, 3]),
        errors.ArgumentError,
        "The tree must be a mapping of names to arrays, or another pytree of arrays, got "
        "float64[2,3] of type ndarray.\n  fix:    give an array a name, {'w': array}.",
    ),
    "specs": (
        js.transform(lambda: js.get_variable("w", [2])).specs(),
        errors.ArgumentError,
        "Specs cannot be saved: they have shapes and no values.\n"
        "  fix:    save the params that init returns.",
    ),
    "a shape": (
        {"a": jax.ShapeDtypeStruct((3,), jnp.float32)},
        errors.ArgumentError,
        "a cannot be saved: it is float32[3] of type ShapeDtypeStruct.\n"
        "  fix:    pass arrays and numbers, or leave it out.",
    ),
    "text": (
        {"a": {"b": "x"}},
        errors.ArgumentError,
        "a/b cannot be saved: it is 'x' of type str.\n"
        "  fix:    pass arrays and numbers, or leave it out.",
    ),
    "bytes": (
        {"a": b"x"},
        errors.ArgumentError,
        "a cannot be saved: it is b'x' of type bytes.\n"
        "  fix:    pass arrays and numbers, or leave it out.",
    ),
    "a mask": (
        {"a": np.ma.array([1.0])},
        errors.ArgumentError,
        "a cannot be saved: it is float64[1] of type MaskedArray.\n"
        "  fix:    pass arrays and numbers, or leave it out.",
    ),
    "an array of objects": (
        {"a": np.array([None])},
        errors.ArgumentError,
        "a cannot be saved: it is object[1] of type ndarray.\n"
        "  fix:    pass arrays of numbers, or leave it out.",
    ),
    "an array of text": (
        {"a": np.array(["x"])},
        errors.ArgumentError,
        "a cannot be saved: it is <U1[1] of type ndarray.\n"
        "  fix:    pass arrays of numbers, or leave it out.",
    ),
    "dates": (
        {"a": np.array(["2020-01-01"], "M8[D]")},
        errors.ArgumentError,
        "a cannot be saved: it is datetime64[D][1] of type ndarray.\n"
        "  fix:    pass arrays of numbers, or leave it out.",
    ),
    "no gradient": (
        {"a": np.zeros(2, jax.dtypes.float0)},
        errors.ArgumentError,
        "a cannot be saved: it is [('float0', 'V')][2] of type ndarray.\n"
        "  fix:    pass arrays of numbers, or leave it out.",
    ),
    "a large int": (
        {"a": 2**70},
        errors.ArgumentError,
        "a cannot be saved: it is 1180591620717411303424 of type int.\n"
        "  fix:    pass a number that fits into 64 bits.",
    ),
    "a key": (
        {"a": jax.random.key(0)},
        errors.ArgumentError,
        "a cannot be saved: it is key<fry>[] of type PRNGKeyArray.\n"
        "  fix:    save jax.random.key_data(key); jax.random.wrap_key_data gives the key back.",
    ),
    "a donated array": (
        {"a": donated()},
        errors.ArgumentError,
        "a cannot be saved: it is float32[2] of type ArrayImpl.\n"
        "  fix:    its memory was donated or deleted: save it before, or save what took its place.",
    ),
    "complex128": (
        {"a": 1j},
        errors.ArgumentError,
        "a cannot be saved as safetensors: the format has no complex128, and it is complex128[].\n"
        "  fix:    save it as .npz, or cast it to complex64.",
    ),
    "int4": (
        {"a": jnp.ones([2], jnp.int4)},
        errors.ArgumentError,
        "a cannot be saved as safetensors: the format has no int4, and it is int4[2].\n"
        "  fix:    cast it to int8.",
    ),
    "float4": (
        {"a": np.ones([2], ml_dtypes.float4_e2m1fn)},
        errors.ArgumentError,
        "a cannot be saved as safetensors: the format has no float4_e2m1fn, and it is "
        "float4_e2m1fn[2].\n  fix:    cast it to a dtype that the format has.",
    ),
    "one name twice": (
        {"a/b": 1.0, "a": {"b": 2.0}},
        errors.NameClashError,
        "Two variables would have the name a/b.\n  fix:    rename or leave out one of the two.",
    ),
    "a number and its text": (
        {1: 1.0, "1": 2.0},
        errors.NameClashError,
        "Two variables would have the name 1.\n  fix:    rename or leave out one of the two.",
    ),
    "a key that is no name": (
        {("a", "b"): 1.0},
        errors.TreeTypeError,
        "('a', 'b') is not a key of params: keys are strings, one per scope, never empty.\n"
        "  fix:    make it a string, such as 'layer_0' for ('a', 'b').",
    ),
    "the name of the metadata": (
        {"__metadata__": 1.0},
        errors.InvalidNameError,
        "'__metadata__' cannot be the name of a variable in a file: a file keeps its metadata "
        "there.\n  fix:    rename it before it is saved.",
    ),
    "no name": (
        {"": 1.0},
        errors.InvalidNameError,
        "'' cannot be the name of a variable in a file: a variable needs a name.\n"
        "  fix:    rename it before it is saved.",
    ),
    "a name that is no text": (
        {"\ud800": 1.0},
        errors.InvalidNameError,
        "'\\ud800' cannot be the name of a variable in a file: half of a surrogate pair is no "
        "text.\n  fix:    rename it before it is saved.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_saved_is_refused_and_the_old_file_stays(name: str, tmp_path: Path) -> None:
    tree, kind, text = REFUSED[name]
    path = tmp_path / "a.safetensors"
    js.io.save(path, {"w": 1.0})
    with pytest.raises(kind) as caught:
        js.io.save(path, tree)
    assert str(caught.value) == text
    assert type(caught.value) is kind
    assert os.listdir(tmp_path) == ["a.safetensors"]
    assert_same(js.io.open(path), {"w": 1.0})


def test_a_traced_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.TransformError) as caught:
        traced(tmp_path / "a.safetensors")
    assert str(caught.value) == (
        "a/w is traced: it has no values yet.\n"
        "  fix:    call jscope.io.save outside of jit, grad and vmap."
    )


def test_an_array_of_other_processes_is_refused_and_orbax_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = jnp.ones(2)
    monkeypatch.setattr(type(array), "is_fully_addressable", False)
    with pytest.raises(errors.ArgumentError) as caught:
        js.io.save(tmp_path / "a.safetensors", {"w": array})
    assert str(caught.value) == (
        "w cannot be saved: it is float32[2] of type ArrayImpl.\n"
        "  fix:    parts of it are with other processes: save it by orbax, which writes from each."
    )


def test_a_tree_without_an_end_is_refused(tmp_path: Path) -> None:
    loop: list[Any] = [1.0]
    loop.append({"a": loop})
    with pytest.raises(errors.ArgumentError, match=r"^1/a holds itself: such a tree has no end\.$"):
        js.io.save(tmp_path / "a.safetensors", loop)


NPZ_REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "bfloat16": (
        {"a": jnp.ones(2, jnp.bfloat16)},
        {},
        "a cannot be saved as npz: the format has no bfloat16, and it is bfloat16[2].\n"
        "  fix:    save it as .safetensors, or cast it.",
    ),
    "float8": (
        {"a": jnp.ones(2, jnp.float8_e5m2)},
        {},
        "a cannot be saved as npz: the format has no float8_e5m2, and it is float8_e5m2[2].\n"
        "  fix:    save it as .safetensors, or cast it.",
    ),
    "int4": (
        {"a": jnp.ones(2, jnp.int4)},
        {},
        "a cannot be saved as npz: the format has no int4, and it is int4[2].\n"
        "  fix:    save it as .safetensors, or cast it.",
    ),
    "metadata": (
        {"a": 1.0},
        {"metadata": {"a": "b"}},
        "An .npz file has no place for metadata.\n  fix:    save it as .safetensors.",
    ),
    "shards": (
        {"a": 1.0},
        {"max_shard_bytes": 10},
        "An .npz file has no place for max_shard_bytes.\n  fix:    save it as .safetensors.",
    ),
    "a name that zip ends at zero": (
        {"a\0b": 1.0},
        {},
        "'a\\x00b' cannot be the name of a variable in an .npz file.\n"
        "  fix:    save it as .safetensors, or rename it.",
    ),
    "a name that numpy cuts": (
        {"a": 1.0, "a.npy": 1.0},
        {},
        "'a.npy' cannot be the name of a variable in an .npz file.\n"
        "  fix:    save it as .safetensors, or rename it.",
    ),
}


@pytest.mark.parametrize("name", NPZ_REFUSED)
def test_what_npz_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    tree, options, text = NPZ_REFUSED[name]
    with pytest.raises(errors.JscopeError) as caught:
        js.io.save(tmp_path / "a.npz", tree, **options)
    assert str(caught.value) == text
    assert os.listdir(tmp_path) == []


ARGUMENTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "another suffix": (
        "a.pt",
        {},
        "The path must end in .safetensors or .npz, got 'a.pt'.\n  fix:    name it .safetensors, "
        "which holds all that JAX computes with, and metadata.",
    ),
    "no path": (3, {}, "The path must be text or a pathlib.Path, got 3 of type int."),
    "metadata that is no mapping": (
        "a.safetensors",
        {"metadata": [1]},
        "The metadata must be a mapping of text to text, got [1] of type list.",
    ),
    "metadata that is no text": (
        "a.safetensors",
        {"metadata": {"step": 3}},
        "The metadata must be text throughout (at 'step'), got 3 of type int.",
    ),
    "half a character": (
        "a.safetensors",
        {"metadata": {"step": "\ud800"}},
        "The metadata must be text, no half of a surrogate pair, got '\\ud800' of type str.",
    ),
    "no number of bytes": (
        "a.safetensors",
        {"max_shard_bytes": 0},
        "The max_shard_bytes must be an int of 1 or more, got 0 of type int.",
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_other_kinds_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, options, text = ARGUMENTS[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.ArgumentError) as caught:
        js.io.save(path, {"w": 1.0}, **options)
    assert str(caught.value) == text
    assert os.listdir(tmp_path) == []


def test_a_path_may_be_relative_or_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    js.io.save("a.safetensors", {"w": 1.0})
    js.io.save(Path("b.npz"), {"w": 1.0})
    assert_same(js.io.open("a.safetensors"), {"w": 1.0})
    assert_same(js.io.open(Path("b.npz")), {"w": 1.0})


# the file system


@pytest.fixture(params=["a.safetensors", "a.npz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_mode_is_that_of_a_plain_write(path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        js.io.save(path, {"w": 1.0})
        (path.parent / "plain").write_bytes(b"")
    finally:
        os.umask(before)
    assert path.stat().st_mode == (path.parent / "plain").stat().st_mode


def test_the_mode_of_a_file_that_is_there_stays(path: Path) -> None:
    path.write_bytes(b"")
    path.chmod(0o640)
    js.io.save(path, {"w": 1.0})
    assert path.stat().st_mode & 0o777 == 0o640


def test_shards_have_the_mode_of_the_file_that_they_replace(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    js.io.save(path, {"a": 1.0, "b": 2.0})
    path.chmod(0o600)
    for most in (8, 8, None):
        js.io.save(path, {"a": 1.0, "b": 2.0}, max_shard_bytes=most)
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("there", [True, False], ids=["of a file", "of none yet"])
def test_a_link_stays_and_what_it_means_is_written(path: Path, there: bool) -> None:
    (path.parent / "data").mkdir()
    target = path.parent / "data" / path.name
    if there:
        target.write_bytes(b"old")
    path.symlink_to(target)
    js.io.save(path, {"w": 1.0})
    assert path.is_symlink()
    assert target.is_file()
    assert_same(js.io.open(path), {"w": 1.0})


def test_shards_lie_beside_what_a_link_means(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "a.safetensors"
    path.symlink_to(tmp_path / "data" / "b.safetensors")
    for most in (8, None, 8, 8):
        js.io.save(path, {"a": 1.0, "b": 2.0}, max_shard_bytes=most)
        assert os.listdir(tmp_path / "data") != []
        assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "data"]
        assert_same(js.io.open(path), {"a": 1.0, "b": 2.0})


def test_what_cannot_be_written_is_one_of_our_errors(path: Path) -> None:
    missing = path.parent / "no" / path.name
    with pytest.raises(errors.MissingFileError) as caught:
        js.io.save(missing, {"w": 1.0})
    assert str(caught.value) == (
        f"{missing}: there is no folder {missing.parent}.\n"
        "  fix:    make it by os.makedirs(folder)."
    )
    path.mkdir()
    text = f"^{re.escape(str(path))}: it cannot be written: there is a folder of this name.$"
    with pytest.raises(errors.FileError, match=text):
        js.io.save(path, {"w": 1.0})
    path.rmdir()
    os.mkfifo(path)
    text = "it cannot be written: there is no regular file of this name.$"
    with pytest.raises(errors.FileError, match=text):
        js.io.save(path, {"w": 1.0})


def test_a_file_that_must_not_be_written_is_not_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    js.io.save(path, {"w": 1.0})
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anything
    with pytest.raises(errors.FileError, match=r": it cannot be written \(permission denied\)\.$"):
        js.io.save(path, {"w": 2.0})
    assert_same(js.io.open(path), {"w": 1.0})


@pytest.mark.parametrize("most", [None, 8])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_leaves_the_old_file_and_nothing_else(
    step: str, most: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    js.io.save(path, {"a": 1.0, "b": 2.0})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(errors.FileError) as caught:
            js.io.save(path, {"a": 3.0, "b": 4.0}, max_shard_bytes=most)
    assert str(caught.value) == f"{path}: it cannot be written (no space left on device)."
    assert os.listdir(tmp_path) == ["a.safetensors"]
    assert_same(js.io.open(path), {"a": 1.0, "b": 2.0})


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz"])
def test_an_interrupt_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_write, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        js.io.save(tmp_path / name, {"w": 1.0})
    assert os.listdir(tmp_path) == []


def test_an_interrupt_after_the_index_is_there_leaves_its_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    replacing = os.replace
    path = tmp_path / "a.safetensors"
    monkeypatch.setattr(os, "replace", lambda *paths: (replacing(*paths), interrupted()))
    with pytest.raises(KeyboardInterrupt):
        js.io.save(path, {"a": 1.0, "b": 2.0}, max_shard_bytes=8)
    assert_same(js.io.open(path), {"a": 1.0, "b": 2.0})


def test_an_error_of_a_damaged_source_is_that_of_the_source(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.arange(100.0))
    damaged = bytearray((tmp_path / "a.npz").read_bytes())
    damaged[400] ^= 1
    (tmp_path / "a.npz").write_bytes(damaged)
    with pytest.raises(errors.FileError, match=r"a\.npz, byte .*are not those that were written"):
        js.io.save(tmp_path / "b.safetensors", js.io.open(tmp_path / "a.npz"))
    assert os.listdir(tmp_path) == ["a.npz"]


# shards


def files(folder: Path) -> list[str]:
    """The names in a folder, with what is random in them taken out."""
    return sorted(re.sub(r"-[0-9a-f]{12}-", "-X-", name) for name in os.listdir(folder))


TWO = ["a-X-00001-of-00002.safetensors", "a-X-00002-of-00002.safetensors"]
INDEX = "a.safetensors.index.json"


def test_a_large_tree_is_split_and_the_index_says_what_is_where(tmp_path: Path) -> None:
    tree = {"a": np.ones(4, "f4"), "b": np.ones(2, "f4"), "c": np.ones(9, "f4"), "d": np.ones(1)}
    path = tmp_path / "a.safetensors"
    js.io.save(path, tree, max_shard_bytes=24, metadata={"step": "7"})
    assert files(tmp_path) == [
        "a-X-00001-of-00003.safetensors",
        "a-X-00002-of-00003.safetensors",
        "a-X-00003-of-00003.safetensors",
        INDEX,
    ]
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"step": "7", "total_size": 68}
    assert [place[-26:-21] for place in index["weight_map"].values()] == [
        "00001", "00001", "00002", "00003",
    ]  # fmt: skip
    for name, place in index["weight_map"].items():  # as others read it
        assert safetensors.numpy.load_file(tmp_path / place)[name].tobytes() == bits(tree[name])
    for opened in (path, tmp_path / INDEX, tmp_path):
        found = js.io.open(opened)
        assert_same(found, tree)
        assert found.metadata == {"step": "7"}


def test_what_fits_is_one_file(tmp_path: Path) -> None:
    js.io.save(tmp_path / "a.safetensors", {"a": np.ones(4)}, max_shard_bytes=32)
    assert files(tmp_path) == ["a.safetensors"]
    js.io.save(tmp_path / "a.safetensors", {"a": np.ones(400)}, max_shard_bytes=32)
    assert files(tmp_path) == ["a.safetensors"]  # one tensor is never split


def test_what_an_earlier_save_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    (tmp_path / "b-0123456789ab-00001-of-00002.safetensors").write_bytes(b"another's")
    for number, most in enumerate([None, 8, 8, None, None, 8]):
        js.io.save(path, {"a": float(number), "b": 2.0}, max_shard_bytes=most)
        there = files(tmp_path)
        there.remove("b-X-00001-of-00002.safetensors")
        assert there == (["a.safetensors"] if most is None else [*TWO, INDEX])
        assert_same(js.io.open(path), {"a": float(number), "b": 2.0})


def hugging_face(folder: Path, tree: dict[str, float]) -> list[str]:
    """Shards and an index as others write them."""
    places = {}
    for number, (name, value) in enumerate(tree.items(), 1):
        places[name] = f"a-{number:05d}-of-{len(tree):05d}.safetensors"
        safetensors.numpy.save_file({name: np.array(value)}, folder / places[name])
    index = {"metadata": {"total_size": 8 * len(tree)}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index))
    return sorted(places.values())


def test_shards_of_others_are_never_removed(tmp_path: Path) -> None:
    theirs = hugging_face(tmp_path, {"a": 1.0, "b": 2.0})
    path = tmp_path / "a.safetensors"
    assert_same(js.io.open(path), {"a": 1.0, "b": 2.0})
    js.io.save(path, {"a": 3.0})
    assert files(tmp_path) == [*theirs, "a.safetensors"]
    assert_same(js.io.open(path), {"a": 3.0})


def test_a_file_beside_the_index_of_others_is_what_it_is_called(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.array(3.0)}, tmp_path / "a.safetensors")
    hugging_face(tmp_path, {"a": 1.0, "b": 2.0})
    assert_same(js.io.open(tmp_path / "a.safetensors"), {"a": 3.0})
    assert_same(js.io.open(tmp_path / INDEX), {"a": 1.0, "b": 2.0})


# kills

KILLED = """
import os, signal, sys, numpy as np, jscope as js
folder, steps = sys.argv[1], 0
path = f"{folder}/a.safetensors"
def tree(value): return {name: np.full([8], value) for name in "abc"}
def found():
    checkpoint = js.io.open(path)
    assert sorted(checkpoint) == ["a", "b", "c"], list(checkpoint)
    values = {value for array in checkpoint.values() for value in array.tolist()}
    assert len(values) == 1, values
    return values.pop()
def child(value, most, limit):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    left = limit
    def counted(function):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0: os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return call
    for name in ("open", "fsync", "replace", "unlink", "fchmod", "fdopen", "access"):
        setattr(os, name, counted(getattr(os, name)))
    import jscope.io._write as write
    write._write = counted(write._write)
    js.io.save(path, tree(value), max_shard_bytes=most)
    os._exit(0)
kills = seen_old = seen_new = 0
value = 0.0
for start in (None, 64):
    for most in (None, 64, 128):
        limit = 1
        while True:
            # A clean state in each form, then a save that is killed at its n-th step.
            js.io.save(path, tree(value), max_shard_bytes=start)
            assert found() == value
            status = child(value + 1, most, limit)
            now = found()
            if status == 0:
                assert now == value + 1
                value += 2
                break
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            assert now in (value, value + 1), (now, value)
            kills, seen_old, seen_new = kills + 1, seen_old + (now == value), seen_new + (now != value)
            # What a kill left must not be in the way of the next save, of either form.
            js.io.save(path, tree(value + 2), max_shard_bytes=most)
            assert found() == value + 2
            value += 3
            limit += 1
print(kills, seen_old, seen_new)
"""


def test_a_kill_at_any_step_leaves_the_old_values_or_the_new_ones(tmp_path: Path) -> None:
    kills, old, new = (int(word) for word in run(KILLED, str(tmp_path)).split())
    assert kills > 80
    assert old > 40
    assert new > 15
    assert old + new == kills


KILLED_ANY_TIME = """
import os, random, signal, sys, time, numpy as np, jscope as js
path, random = f"{sys.argv[1]}/a.safetensors", random.Random(0)
def tree(value): return {name: np.full([20000], value) for name in "abc"}
js.io.save(path, tree(0.0))
last, kills = 0.0, 0
while kills < 40 or last < 20:  # however slow the disk is
    kills += 1
    pid = os.fork()
    if not pid:
        value = last
        while True:
            value += 1
            js.io.save(path, tree(value), max_shard_bytes=random.choice([None, 200_000]))
    time.sleep(random.uniform(0.001, 0.001 * max(50, kills)))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    random.random()
    checkpoint = js.io.open(path)
    values = {value for array in checkpoint.values() for value in array.tolist()}
    assert sorted(checkpoint) == ["a", "b", "c"] and len(values) == 1
    assert min(values) >= last
    last = values.pop()
print(last)
"""


def test_a_kill_at_any_time_leaves_the_last_or_the_next_values(tmp_path: Path) -> None:
    assert float(run(KILLED_ANY_TIME, str(tmp_path))) >= 20


def test_a_reader_that_is_overtaken_again_and_again_finds_the_last_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read, saved = tmp_path / "a.safetensors", _shards.read_index, [0]

    def save() -> None:
        js.io.save(path, {name: np.full([8], saved[0]) for name in "abc"}, max_shard_bytes=64)

    def read_and_save(index: str) -> Any:
        found = read(index)
        if saved[0] < 9:
            saved[0] += 1
            with monkeypatch.context() as plain:
                plain.setattr(_shards, "read_index", read)
                save()
        return found

    save()
    monkeypatch.setattr(_shards, "read_index", read_and_save)
    assert [array.tolist() for array in js.io.open(path).values()] == [[9] * 8] * 3


def test_readers_find_whole_values_while_others_are_saved(tmp_path: Path) -> None:
    code = """
import os, signal, sys, numpy as np, jscope as js
path = f"{sys.argv[1]}/a.safetensors"
def tree(value): return {name: np.full([100], value) for name in "abc"}
js.io.save(path, tree(0.0))
pid = os.fork()
if not pid:
    for value in range(1, 10**6):
        js.io.save(path, tree(float(value)), max_shard_bytes=[None, 800][value % 2])
last = 0.0
try:
    for _ in range(300):
        checkpoint = js.io.open(path)
        values = {value for array in checkpoint.values() for value in array.tolist()}
        assert len(values) == 1 and min(values) >= last, (values, last)
        last = values.pop()
finally:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print(last)
"""
    assert float(run(code, str(tmp_path))) > 0
