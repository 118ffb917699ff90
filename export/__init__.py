"""Making a bundle: torch or ONNX in, graphs with their heads, fit, calibration, evidence. Never imports `serving`."""
