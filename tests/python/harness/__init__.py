"""What the tests share: running the program, making checkpoints with PyTorch, comparing bytes."""
