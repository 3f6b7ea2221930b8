"""Train your own ChatGPT-style model, from raw text to a chat you can talk to."""

__version__ = "0.1.0"
