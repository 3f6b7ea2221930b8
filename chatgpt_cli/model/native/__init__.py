"""The model in C++, compiled where it runs: what PyTorch's calls cost more than computing."""
