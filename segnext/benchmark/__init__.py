"""What a training step, a prediction and the data pipeline cost on this machine, beside the same network in PyTorch."""
