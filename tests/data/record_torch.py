"""Records weights and outputs of PyTorch, for ``tests/test_interop.py``.

Writes torch.safetensors and torch.npz beside this file. Also hands ``from_torch`` what only PyTorch
can make, tensors, and asserts what comes of them: the suite, which has no PyTorch, cannot. Needs
``pip install torch safetensors`` (the CPU build will do):

    python tests/data/record_torch.py
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

import jscope as js

DATA = Path(__file__).parent


class Net(nn.Module):
    """One layer of each kind; no two sizes of a weight are equal, so that a wrong axis shows."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.encoder = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6))
        self.conv1 = nn.Conv1d(6, 5, 3)
        self.conv2 = nn.Conv2d(5, 4, (3, 2))
        self.grouped = nn.Conv2d(4, 6, (2, 1), groups=2)
        self.conv3 = nn.Conv3d(6, 7, (1, 2, 3))
        self.up = nn.ConvTranspose2d(7, 3, (3, 2), stride=2)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """The output of each layer, from ids [batch, 9]."""
        out = {"table": self.table(ids)}
        out["encoder"] = self.encoder(out["table"])  # [batch, 9, 6]
        out["conv1"] = self.conv1(out["encoder"].mT)  # [batch, 5, 7]
        image = out["conv1"][..., None] * torch.arange(1.0, 6.0)
        out["conv2"] = self.conv2(image)  # [batch, 4, 5, 4]
        out["grouped"] = self.grouped(out["conv2"])  # [batch, 6, 4, 4]
        volume = torch.stack([out["grouped"], -out["grouped"]], dim=2)
        out["conv3"] = self.conv3(volume)  # [batch, 7, 2, 3, 2]
        out["up"] = self.up(out["conv3"][:, :, 0])  # [batch, 3, 7, 4]
        out["norm"] = self.norm(out["up"])
        return out


def record() -> None:
    """A net in half the precision, and what it computes with those weights."""
    torch.manual_seed(0)
    net = Net()
    ids = torch.randint(0, 11, (2, 9))
    net(ids)  # moves the averages of the norm
    net.eval()
    with torch.no_grad():
        for norm in (net.encoder[1], net.norm):
            norm.weight.uniform_(0.5, 2.0)
            norm.bias.normal_()
        # The averages stay in float32: a file has several dtypes, and one int64.
        state = {
            name: tensor.bfloat16() if "running" not in name and tensor.ndim else tensor
            for name, tensor in net.state_dict().items()
        }
        net.load_state_dict(state)
        outputs = net(ids)
    save_file(state, DATA / "torch.safetensors")
    np.savez_compressed(DATA / "torch.npz", ids=ids, **{k: v.numpy() for k, v in outputs.items()})


def same(found: Any, tensor: torch.Tensor) -> bool:
    """Whether an array has the values of a tensor, bit for bit, as far as float64 tells."""
    wanted = tensor.detach().to(torch.complex128).numpy()
    return np.array_equal(np.asarray(found).astype(np.complex128), wanted)


DTYPES = [
    *("bool", "uint8", "int8", "int16", "int32", "uint16", "uint32"),
    *("float16", "bfloat16", "float32", "complex64"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
]


def check_dtypes() -> None:
    """Every dtype that JAX has comes as it is; the others stay NumPy's, unchanged."""
    values = torch.tensor([0.0, 1.0, 2.0, 1.5])
    for name in DTYPES:
        tensor = values.to(getattr(torch, name))
        found = js.interop.from_torch({"w": tensor, "scalar": tensor[3]})
        assert isinstance(found["w"], jax.Array), name
        assert found["w"].dtype == jnp.dtype(name), name
        assert same(found["w"], tensor), name
        assert found["scalar"].shape == (), name
        assert same(found["scalar"], tensor[3]), name
    wide = {
        "int64": torch.tensor([2**40]),
        "float64": torch.tensor([math.pi], dtype=torch.float64),
        "complex128": torch.tensor([1j * math.pi], dtype=torch.complex128),
    }
    for name, value in js.interop.from_torch(wide).items():
        assert isinstance(value, np.ndarray), name
        assert value.dtype == name, name
        assert same(value, wide[name]), name
        with jax.enable_x64(True):
            wider = js.interop.from_torch(wide)[name]
        assert isinstance(wider, jax.Array), name
        assert wider.dtype == name, name
        assert same(wider, wide[name]), name


def check_strides() -> None:
    """Transposed, strided, expanded, conjugated and empty tensors."""
    matrix = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "transposed": matrix.T,
        "strided": matrix[::2, 1::2],
        "flipped": matrix.flip(0),
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 3),
        "conjugated": torch.tensor([[1 + 2j, 3j]]).conj(),
        "negative": torch.tensor([[1 + 2j, 3j]]).conj().imag,
        "half": matrix.bfloat16().T[1:, ::2],
        "empty": torch.zeros(0, 3),
        "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "wanting a gradient": torch.rand(2, 2, requires_grad=True),
        "parameter": nn.Parameter(torch.rand(2, 2)),
    }
    named = {name.replace(" ", "_"): tensor for name, tensor in tensors.items()}
    for name, value in js.interop.from_torch(named).items():
        assert value.shape == tuple(named[name].shape), name
        assert same(value, named[name]), name
    for name, value in js.interop.from_torch(
        {f"{name}.weight": tensor for name, tensor in named.items()}, kernels="**"
    ).items():
        axes = (*range(2, named[name].ndim), 1, 0)
        assert same(value["kernel"], named[name].permute(axes)), name


def check_memory() -> None:
    """What PyTorch does to its tensors later does not reach the arrays; shared ones may stay so."""
    plain = torch.zeros(64, 64)
    wide = torch.zeros(64, 64, dtype=torch.float64)
    tied = {"in.weight": plain, "out.weight": plain, "wide": wide}
    found = js.interop.from_torch(tied, kernels="out/weight")
    plain.fill_(7.0)
    wide.fill_(7.0)
    assert not np.any(found["in"]["weight"])
    assert not np.any(found["out"]["kernel"])
    assert not np.any(found["wide"])


def refusal(mapping: Any) -> str:
    """The first line of the error."""
    try:
        js.interop.from_torch(mapping)
    except js.errors.TreeTypeError as error:
        return str(error).splitlines()[0]
    raise AssertionError("nothing was refused")


def check_refusals() -> None:
    """Tensors without numbers, and a module in place of its state_dict."""
    no_memory = torch.zeros(2, device="meta")
    assert refusal({"w": no_memory}) == (
        "The value of 'w' is no tensor or array of numbers: torch.float32 of layout torch.strided "
        "on meta."
    )
    sparse = torch.eye(2).to_sparse()
    assert refusal({"a.w": sparse}) == (
        "The value of 'a.w' is no tensor or array of numbers: torch.float32 of layout "
        "torch.sparse_coo on cpu."
    )
    assert refusal(nn.Linear(2, 2)) == "The state_dict must be a mapping, got Linear."


if __name__ == "__main__":
    record()
    check_dtypes()
    check_strides()
    check_memory()
    check_refusals()
    for file in ("torch.safetensors", "torch.npz"):
        print(f"{file}: {(DATA / file).stat().st_size} bytes")
