"""Runs steps: calls that depend on each other, with retries, timeouts and results that stay where they are."""
