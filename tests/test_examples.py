"""The examples run, at a small size, and answer their questions."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import pytest

import jscope as js

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _settings_of_a_user() -> Iterator[None]:
    """JAX as people meet it: the suite's strict promotion would refuse ``x @ kernel + bias``."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    return load("digits")


@pytest.fixture(scope="module")
def siamese() -> ModuleType:
    return load("siamese")


def test_every_example_is_run_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"digits", "siamese"}


def test_digits_learns_in_forty_steps_and_saves_its_picture(digits, tmp_path, capsys):
    picture = tmp_path / "digits.png"
    accuracy = digits.main(steps=40, picture=str(picture))
    assert 0.8 < accuracy <= 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"test accuracy {accuracy:.4f}, picture saved to {picture}"
    )


def test_digits_gives_every_layer_its_own_variables(digits):
    assert {
        name: spec.shape for name, spec in digits.net.specs(jnp.zeros([1, 8, 8, 1])).items()
    } == {
        "conv1/kernel": (3, 3, 1, 32),
        "conv1/bias": (32,),
        "conv2/kernel": (3, 3, 32, 64),
        "conv2/bias": (64,),
        "scores/kernel": (256, 10),
        "scores/bias": (10,),
    }


def test_digits_gives_the_same_answer_twice(digits, tmp_path):
    picture = str(tmp_path / "digits.png")
    assert digits.main(steps=5, picture=picture) == digits.main(steps=5, picture=picture)


def test_siamese_learns_in_fifty_steps(siamese, capsys):
    accuracy = siamese.main(steps=50)
    assert 0.8 < accuracy <= 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(
        "without reuse: Variable tower/dense1/kernel already exists, disallowed."
    )
    assert said[-1] == f"accuracy on held-out pairs {accuracy:.4f}"


def test_siamese_has_one_tower(siamese):
    images = jnp.zeros([1, 64])
    assert list(siamese.net.specs(images, images)) == [
        "tower/dense1/kernel",
        "tower/dense1/bias",
        "tower/dense2/kernel",
        "tower/dense2/bias",
        "tower/point/kernel",
        "tower/point/bias",
        "limit",
    ]


def test_siamese_without_reuse_is_refused(siamese):
    images = jnp.zeros([1, 64])
    with pytest.raises(
        js.errors.VariableExistsError,
        match=r"^Variable tower/dense1/kernel already exists, disallowed\.",
    ):
        siamese.net.specs(images, images, reuse=False)
