"""Measuring a model, comparing runs, and reports."""
