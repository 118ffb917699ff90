"""What a graph does to the rows of a batch, read from its nodes before anything runs. Knows ONNX, and no runtime."""
