"""The float reference: a graph goes out as ONNX and runs in onnxruntime."""
