"""What is shown of where an error comes from: frames, scopes and cells of notebooks."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jscope as js
from jscope import errors

X = jnp.ones([2, 3])


def block(x: jax.Array) -> jax.Array:
    with js.variable_scope("attention"):
        js.get_variable("w", [3])
        return x @ jnp.ones([4, 4])


def encoder(x: jax.Array) -> jax.Array:
    with js.variable_scope("encoder"):
        return js.layer_stack(2)(block)(x)


def plain(x: jax.Array) -> jax.Array:
    with js.variable_scope("encoder"):
        return block(x)


ONCE = js.checkpoint(block)


def once(x: jax.Array) -> jax.Array:
    with js.variable_scope("encoder"):
        return ONCE(x)


def template(x: jax.Array) -> jax.Array:
    return js.make_template("encoder", block)(x)


def raw(x: jax.Array) -> jax.Array:
    with js.variable_scope("encoder"):
        return jax.checkpoint(block)(x)


PROGRAMS = [plain, encoder, once, template, raw]
PARAMS = {"encoder": {"attention": {"w": jnp.ones([3])}}}
STACKED = jax.tree.map(lambda w: jnp.stack([w, w]), PARAMS)


def calls(fn: Callable[..., Any]) -> list[Callable[[], Any]]:
    """Init, specs and apply of a function."""
    net = js.transform(fn)
    params = STACKED if fn is encoder else PARAMS
    return [
        lambda: net.init(0, X),
        lambda: net.specs(X),
        lambda: net.apply(params, None, X),
        lambda: js.without_apply_rng(net).apply(params, X),
        lambda: jax.jit(net.apply)(params, None, X),
    ]


def raised(call: Callable[[], Any], kind: type[Exception] = TypeError) -> Exception:
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def shown(error: Exception) -> list[str]:
    """The functions of this file and of jscope in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = (__file__, os.path.dirname(js.__file__))
    return [frame.name for frame in frames if frame.filename.startswith(ours)]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("call", range(5))
def test_tracebacks_show_no_frames_of_ours(program: Callable[..., Any], call: int) -> None:
    error = raised(calls(program)[call])
    assert shown(error) == ["raised", "<lambda>", program.__name__, "block"]


def test_an_error_of_ours_ends_at_the_line_of_the_user() -> None:
    error = raised(lambda: js.transform(plain).apply({}, None, X), errors.VariableNotFoundError)
    assert shown(error) == ["raised", "<lambda>", "plain", "block"]
    assert len(traceback.extract_tb(error.__traceback__)) == 4


def test_the_switch_of_jax_shows_all_frames() -> None:
    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "off")
    try:
        error = raised(calls(encoder)[0])
    finally:
        jax.config.update("jax_traceback_filtering", before)
    assert len(shown(error)) > 12


def scopes(error: Exception) -> list[str]:
    return [note for note in error.__notes__ if note.startswith("in scope")]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("call", range(5))
def test_an_error_tells_the_innermost_scope_once(program: Callable[..., Any], call: int) -> None:
    assert scopes(raised(calls(program)[call])) == ["in scope encoder/attention"]


def test_an_error_of_layers_tells_their_scope() -> None:
    def net(x: jax.Array) -> None:
        with js.variable_scope("head"):
            js.layers.dense(x, 3, activation=lambda x: x @ x)

    assert scopes(raised(lambda: js.transform(net).specs(X))) == ["in scope head/dense"]


def test_an_error_outside_of_scopes_tells_none() -> None:
    def net(x: jax.Array) -> None:
        with js.variable_scope("a"):
            pass
        with js.variable_scope(js.get_variable_scope()):
            x @ x

    error = raised(lambda: js.transform(net).specs(X))
    assert scopes(error) == []


def test_an_error_of_ours_tells_the_scope_unless_it_tells_the_place() -> None:
    def wrong(units: Any) -> None:
        with js.variable_scope("head"):
            js.layers.dense(X, units)

    error = raised(lambda: js.transform(wrong).specs("many"), errors.ArgumentError)
    assert scopes(error) == ["in scope head"]
    assert scopes(pickle.loads(pickle.dumps(error))) == ["in scope head"]

    error = raised(lambda: js.transform(plain).apply({}, None, X), errors.VariableNotFoundError)
    assert scopes(error) == []


def test_a_block_that_fails_when_it_is_traced_again_tells_the_scope_around() -> None:
    turns: list[int] = []

    @js.checkpoint
    def fickle(x: jax.Array) -> jax.Array:
        turns.append(1)
        with js.variable_scope("inner"):
            x = x * js.get_variable("w", [1, 3])
            return x @ x if len(turns) > 1 else x

    def net(x: jax.Array) -> jax.Array:
        for i in range(2):
            with js.variable_scope(f"layer_{i}"):
                x = fickle(x)
        return x

    assert scopes(raised(lambda: js.transform(net).specs(X))) == ["in scope layer_1"]


def site(file: str) -> str:
    return str(errors.Site(file, 5, "net"))


def fake_ipython(monkeypatch: pytest.MonkeyPatch, compiler: object) -> None:
    shell = types.SimpleNamespace(compile=compiler)
    module = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", module)


def test_a_site_in_a_cell_of_a_notebook_tells_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"/tmp/ipykernel_12/345.py": ("Cell", "In[9]")}
    fake_ipython(monkeypatch, types.SimpleNamespace(format_code_name=names.get))
    assert site("/tmp/ipykernel_12/345.py") == "Cell In[9]:5 in net"
    assert site("/tmp/model.py") == "/tmp/model.py:5 in net"


def test_a_site_in_a_cell_of_an_old_ipython_tells_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_ipython(monkeypatch, object())
    assert site("<ipython-input-12-0af2e3>") == "Cell In[12]:5 in net"
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert site("<ipython-input-3-0af2e3>") == "Cell In[3]:5 in net"
    assert site("<stdin>") == "<stdin>:5 in net"


CELLS = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="NoColor")
shell.run_cell("import jscope as js", store_history=True)
shell.run_cell('''
def net():
    js.get_variable("w", [2])
    js.get_variable("w", [2])
''', store_history=True)
shell.run_cell("js.transform(net).init(0)", store_history=True)
shell.run_cell("js.variable_scope('a', initializer='zeros')", store_history=True)
"""


def test_errors_in_ipython_show_cells() -> None:
    pytest.importorskip("IPython")
    done = subprocess.run([sys.executable, "-c", CELLS], capture_output=True, text=True, check=True)
    assert "  first:  float32[2] at Cell In[2]:2 in net\n" in done.stdout
    assert "  again:  at Cell In[2]:3 in net\n" in done.stdout
    assert "  asked:  variable_scope at Cell In[4]:1 in <module>\n" in done.stdout
    assert "skipping hidden" in done.stdout
