"""What the notebooks of *PyTorch by Experiment* import. Importing this package costs nothing."""
