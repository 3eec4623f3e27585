"""Saves a model with MLflow: make.py MODEL.onnx DIRECTORY

Needs mlflow-skinny==3.17.2, onnx==1.23.2, onnxruntime, numpy and pandas.
"""

import sys

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models.signature import ModelSignature
from mlflow.types import Schema, TensorSpec


def schema(values, axes):
    return Schema([TensorSpec(np.dtype("float32"), axes, value.name) for value in values])


model = onnx.load(sys.argv[1])
signature = ModelSignature(schema(model.graph.input, (-1, 1, 8, 8)), schema(model.graph.output, (-1, 10)))
mlflow.onnx.save_model(model, sys.argv[2], signature=signature, metadata={"dataset": "digits"})
