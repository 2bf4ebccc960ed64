"""onnxruntime as the oracle: what it says of inputs that do not fit."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgesparse.errors import UsageError
from edgesparse.harness.ort import OrtSession, PartialSession

INPUTS = [{"name": "ids", "shape": [2], "dtype": "int64"}]


@pytest.fixture
def table():
    """A model that looks up rows of a table of five."""
    node = helper.make_node("Gather", ["table", "ids"], ["y"], "look up")
    values = [helper.make_tensor_value_info("ids", 7, [2])]
    results = [helper.make_tensor_value_info("y", 1, [2, 3])]
    rows = numpy_helper.from_array(np.ones((5, 3), np.float32), "table")
    graph = helper.make_graph([node], "g", values, results, [rows])
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_indices_outside_of_a_table_are_the_datas_fault(table, tmp_path, capfd) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(table.SerializeToString())
    whole, partial = OrtSession(path, INPUTS), PartialSession(path.read_bytes())
    inside, outside = np.array([[0, 4]]), np.array([[0, 99]])
    assert whole.run({"ids": inside})["y"].shape == (1, 2, 3)
    with pytest.raises(UsageError, match=r"cannot run .*m\.onnx on these inputs: .*99") as caught:
        whole.run({"ids": outside})
    assert "Indices" in caught.value.hint
    with pytest.raises(UsageError, match="cannot run the model on these inputs"):
        partial.run({"ids": outside[0]}, ["y"])
    assert capfd.readouterr() == ("", "")
