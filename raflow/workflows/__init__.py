"""Ways to write a workflow of Python functions; beneath all of them runs `raflow.runtime.steps`."""
