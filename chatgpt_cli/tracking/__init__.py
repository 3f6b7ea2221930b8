"""A run's curves in TensorBoard, Weights & Biases and Trackio.

The source is metrics.jsonl, and a tracker is one more reader of it, in a process of its
own: whatever a service does (ask, print, hang, crash), training does not notice.
"""
