"""Layers to compare with Keras 3 and Haiku, which TensorFlow 1 did not have or kept elsewhere.

Read by ``data/record_peers.py``, which runs them there, and by ``test_peers.py``. The numbers to run
them on are those of ``tf1_tables.fill``.
"""

from __future__ import annotations

from typing import Any

from tf1_tables import Case


def _case(layer: str, shape: list[int], **options: Any) -> Case:
    return Case(layer, tuple(shape), options)


LAYERS = [
    _case("conv1d_transpose", [2, 4, 3], filters=2, kernel_size=3),
    _case("conv1d_transpose", [1, 4, 2], filters=3, kernel_size=5, strides=2, padding="same"),
    _case("conv1d_transpose", [1, 3, 2], filters=2, kernel_size=2, strides=3),
    _case("conv3d_transpose", [1, 2, 3, 2, 2], filters=3, kernel_size=2),
    _case("conv3d_transpose", [1, 2, 2, 3, 2], filters=2, kernel_size=[2, 3, 1], strides=[1, 2, 2]),
    _case("conv3d_transpose", [1, 2, 2, 2, 2], filters=2, kernel_size=3, strides=2, padding="same"),
    _case("separable_conv1d", [2, 7, 3], filters=4, kernel_size=3),
    _case("separable_conv1d", [1, 7, 2], filters=3, kernel_size=3, strides=2, padding="same"),
    _case("separable_conv1d", [1, 7, 2], filters=3, kernel_size=2, depth_multiplier=2),
    _case("separable_conv1d", [1, 8, 2], filters=3, kernel_size=3, dilation_rate=2, use_bias=False),
    _case("depthwise_conv2d", [2, 4, 5, 3], kernel_size=3),
    _case("depthwise_conv2d", [1, 5, 5, 2], kernel_size=[2, 3], depth_multiplier=3, padding="same"),
    _case("depthwise_conv2d", [1, 6, 5, 2], kernel_size=3, depth_multiplier=2, strides=2),
    _case("depthwise_conv2d", [1, 6, 6, 2], kernel_size=2, dilation_rate=2, use_bias=False),
    _case("group_norm", [2, 3, 2, 4], groups=2),
    _case("group_norm", [2, 5, 6], groups=3, epsilon=0.1, scale=False),
    _case("group_norm", [2, 4, 3, 2], groups=2, axis=1, center=False),
    _case("group_norm", [3, 6], groups=2),
    _case("instance_norm", [2, 3, 2, 4]),
    _case("instance_norm", [2, 3, 4, 2], axis=1, epsilon=0.1),
    _case("rms_norm", [3, 4]),
    _case("rms_norm", [2, 3, 4], epsilon=0.1),
]

ATTENTIONS = [
    _case("multi_head_attention", [2, 5, 8], num_heads=2),
    _case("multi_head_attention", [2, 5, 8], num_heads=2, is_causal=True),
    _case("multi_head_attention", [1, 4, 6], num_heads=3, head_size=4, use_bias=False),
    _case("multi_head_attention", [2, 4, 6], num_heads=3, mask=[2, 4, 4]),
    _case("multi_head_attention", [2, 4, 6], num_heads=3, mask=[2, 4, 4], is_causal=True),
    _case("multi_head_attention", [2, 4, 6], num_heads=2, keys=[2, 5, 3]),
    _case("multi_head_attention", [2, 4, 6], num_heads=2, keys=[2, 5, 3], values=[2, 5, 4]),
]
"""``keys``, ``values`` and ``mask`` by their shapes."""

SPECTRAL = [
    {"shape": [3, 4], "iterations": 1},
    {"shape": [2, 3, 2, 5], "iterations": 3},
]
"""Two reads of one kernel."""
