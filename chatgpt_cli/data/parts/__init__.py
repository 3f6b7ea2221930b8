"""Preprocessing in parts, which several workers and machines share."""
