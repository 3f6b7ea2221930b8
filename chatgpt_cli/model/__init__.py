"""The Transformer, and what it needs to know of nothing else but its `ModelConfig`."""
