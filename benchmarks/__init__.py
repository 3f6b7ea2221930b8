"""Speed, memory and quality, measured beside the peers: `python -m benchmarks.NAME`."""
