"""Leaving out documents: by rules, by language, and what nearly repeats another."""
