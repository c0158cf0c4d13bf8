"""The step side: workflows of Python functions."""
