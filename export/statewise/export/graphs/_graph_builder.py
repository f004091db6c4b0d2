"""Builds an ONNX graph from nodes and constants, in the order they are added.

Knows ONNX's messages and no recurrent network. Weights become initialisers, never inputs: recurrent operators
prepack constant weights, and only then is a row's result independent of its batch.
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from statewise.export.base import Array

OPSET = 17
IR_VERSION = 8
PRODUCER = "statewise"


class GraphBuilder:
    """Collects nodes and constants; `model()` and `body()` give the finished graph.

    Args:
        outer: For the body of a loop or branch: the graph around it, which keeps the constants of both.
    """

    def __init__(self, outer: "GraphBuilder | None" = None) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {} if outer is None else outer._constants
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: str, shape: tuple[int | str, ...]) -> str:
        """Declares an input; text among the sizes is a free dimension. Returns its name."""
        self._inputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))
        return name

    def output(self, name: str, dtype: str, shape: tuple[int | str, ...]) -> None:
        """Declares an output, which a node has to give."""
        self._outputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))

    def constant(self, name: str, values: Array | np.generic | list[int]) -> str:
        """Adds an initialiser; a list becomes int64 (axes, sizes). Returns its name."""
        array = np.asarray(values, np.int64) if isinstance(values, list) else np.asarray(values, order="C")
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Adds a node with one output, which also names the node. Returns the output's name."""
        return self.add_many(operator, inputs, [output], name=output, **attributes)[0]

    def add_many(
        self, operator: str, inputs: list[str], outputs: list[str], *, name: str, **attributes: Any
    ) -> list[str]:
        """Adds a node with several outputs; an empty name omits an input or output. Returns the outputs."""
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))
        return outputs

    def adopt(self, graph: onnx.GraphProto) -> None:
        """Adds the nodes and constants of a graph; its names must differ from those used here."""
        self._nodes += graph.node
        self._constants |= {entry.name: entry for entry in graph.initializer}

    def rename(self, tensor: str, name: str) -> None:
        """Renames the output of the last node, to the name of a graph output.

        Raises:
            ValueError: the last node does not give that tensor, so other nodes may read it.
        """
        last = self._nodes[-1]
        if list(last.output) != [tensor]:
            raise ValueError(f"expected the output of the last node, {list(last.output)}; got {tensor!r}")
        last.output[0] = name

    def body(self, name: str) -> onnx.GraphProto:
        """Returns the finished body of a loop or branch."""
        return helper.make_graph(self._nodes, name, self._inputs, self._outputs)

    def model(
        self, name: str, *, doc: str, metadata: dict[str, str], adopted: onnx.ModelProto | None = None
    ) -> onnx.ModelProto:
        """Makes the finished model, of opset OPSET and version IR_VERSION, or of an adopted model's."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._constants.values()), doc_string=doc
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)] if adopted is None else adopted.opset_import,
            ir_version=IR_VERSION if adopted is None else max(IR_VERSION, adopted.ir_version),
            functions=[] if adopted is None else adopted.functions,
            producer_name=PRODUCER,
            doc_string=doc,
        )
        helper.set_model_props(model, metadata)
        return model


def _element_type(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
