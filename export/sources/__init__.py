"""Where a model comes from: today a torch module, exported to one self-contained ONNX graph.

Absent: data, and anything that is fitted.
"""
