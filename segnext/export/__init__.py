"""From a checkpoint to where it runs: an ONNX file that gives the evaluated mIoU, its proof, int8, and video."""
