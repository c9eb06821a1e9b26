"""Runs ONNX files in bfloat16 on ONNX Runtime, whose CPU code has no convolutions in bfloat16."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["rounded_to_bfloat16", "run_onnx"]


def run_onnx(model: onnx.ModelProto, clips: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a network's file on clips in float32; return the logits in float32."""
    kind = model.graph.input[0].type.tensor_type.elem_type
    if kind == TensorProto.BFLOAT16:
        model = rounded_to_bfloat16(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    wanted = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    (logits,) = session.run(None, {model.graph.input[0].name: clips.astype(wanted)})
    return np.asarray(logits, np.float32)


def rounded_to_bfloat16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that computes in float32 and rounds what was bfloat16 after each operator."""
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph = model.graph
    narrow = {
        value.name
        for value in (*graph.input, *graph.output, *graph.value_info)
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16
    }
    for value in (*graph.input, *graph.output):
        if value.name in narrow:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    nodes: list[Any] = []
    for node in graph.node:
        assert node.op_type not in ("Constant", "ConstantOfShape", "If", "Loop")
        outputs = [name for name in node.output if name in narrow]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
        for index, name in enumerate(node.output):
            if name in narrow:
                node.output[index] = f"{name}_exact"
        nodes.append(node)
        for name in outputs:
            nodes += [
                helper.make_node(
                    "Cast", [f"{name}_exact"], [f"{name}_narrow"], to=TensorProto.BFLOAT16
                ),
                helper.make_node("Cast", [f"{name}_narrow"], [name], to=TensorProto.FLOAT),
            ]
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return model
