"""ONNX files of users: foreign networks that work, and everything that must be refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_onnx import external, save, shuffle_network
from networks import HALF, TINY, random_weights
from onnx import TensorProto, helper, numpy_helper

from upscale.backends.onnx import OnnxBackend
from upscale.backends.onnx_file import MAX_BYTES, read_onnx
from upscale.errors import ModelError
from upscale.export.onnx import build_onnx


def test_a_foreign_network_works_at_any_size(tmp_path: Path) -> None:
    luma = np.arange(15, dtype=np.uint8).reshape(3, 5)
    with OnnxBackend(save(shuffle_network(), tmp_path / "x.onnx")) as backend:
        np.testing.assert_array_equal(backend(luma), luma.repeat(2, 0).repeat(2, 1))


def test_finds_out_that_sides_must_be_even(tmp_path: Path) -> None:
    """A file without this project's metadata does not say what its space-to-depth needs."""
    model = build_onnx(HALF, random_weights(HALF), {})
    del model.metadata_props[:]
    with OnnxBackend(save(model, tmp_path / "x.onnx")) as backend:
        assert backend(np.zeros((3, 5), np.uint8)).shape == (6, 10)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (shuffle_network(channels=3, shape=("N", 3, "H", "W")), "wants 3 channels"),
        (shuffle_network(channels=3), "fails on"),  # does not say so before it runs
        (shuffle_network(scale=3), "turns 16×16 into 48×48"),
        (shuffle_network(kind=TensorProto.FLOAT16), "not float"),
        (shuffle_network(shape=("N", 1, 64, 64)), "fixed at 64×64"),
    ],
    ids=["rgb", "rgb-silent", "x3", "half", "fixed"],
)
def test_refuses_networks_of_another_shape(model: onnx.ModelProto, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        OnnxBackend(save(model, tmp_path / "x.onnx"))


def test_refuses_wrong_rank(tmp_path: Path) -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["H", "W"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["H", "W"])],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    with pytest.raises(ModelError, match="N, 1, H, W"):
        OnnxBackend(save(model, tmp_path / "x.onnx"))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "beside.bin", "link"])
def test_refuses_weights_outside_the_file(location: str, tmp_path: Path) -> None:
    """CVE-2022-25882 and its successors; onnxruntime 1.31 still follows a hard link."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(1 << 12))
    (folder / "beside.bin").write_bytes(bytes(1 << 12))
    os.link(tmp_path / "secret", folder / "link")
    model = shuffle_network()
    external(model.graph.initializer[0], location)
    with pytest.raises(ModelError, match="outside itself"):
        read_onnx(save(model, folder / "x.onnx"))


def test_refuses_weights_outside_the_file_wherever_they_hide(tmp_path: Path) -> None:
    """Tensors also sit in node attributes and sparse initialisers."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "t")
    external(tensor, "x")
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    indices = numpy_helper.from_array(np.arange(4), "i")
    sparse = onnx.SparseTensorProto(values=tensor, indices=indices, dims=[4])
    for graph in (
        helper.make_graph([constant], "g", [], []),
        onnx.GraphProto(name="g", sparse_initializer=[sparse]),
    ):
        with pytest.raises(ModelError, match="outside itself"):
            read_onnx(save(helper.make_model(graph), tmp_path / "x.onnx"))
    read_onnx(save(build_onnx(TINY, random_weights(TINY), {"location": "x"}), tmp_path / "x.onnx"))


def test_refuses_what_can_hide_or_run_for_ever(tmp_path: Path) -> None:
    """Loops and branches, functions, and operators that are code of somebody's own."""
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "inner", [], [])
    loop = helper.make_node("Loop", ["n", "b", "x"], ["y"], body=inner)
    branch = helper.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=inner)
    custom = helper.make_node("Run", ["x"], ["y"], domain="evil.example")
    function = helper.make_function(
        "d", "f", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 13)]
    )
    for node, words in ((loop, "loops"), (branch, "branches"), (custom, "not ONNX's own")):
        model = helper.make_model(helper.make_graph([node], "g", [], []))
        with pytest.raises(ModelError, match=words):
            read_onnx(save(model, tmp_path / "x.onnx"))
    model = helper.make_model(helper.make_graph([], "g", [], []), functions=[function])
    with pytest.raises(ModelError, match="functions"):
        read_onnx(save(model, tmp_path / "x.onnx"))


def test_refuses_large_files_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ModelError, match="larger than 64 MB"):
        read_onnx(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_onnx(tmp_path / "none.onnx")


def test_deeply_nested_file_is_refused(tmp_path: Path) -> None:
    """Subgraphs are not entered: 10 000 of them must not end the process."""
    graph = onnx.GraphProto(name="g").SerializeToString()

    def wrap(field: int, data: bytes) -> bytes:
        size, length = len(data), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([field << 3 | 2]) + length + bytes([size]) + data

    for _ in range(200):
        graph = wrap(1, wrap(5, wrap(6, graph)))
    path = tmp_path / "x.onnx"
    path.write_bytes(wrap(7, graph))
    with pytest.raises(ModelError, match="branches or loops"):
        read_onnx(path)
