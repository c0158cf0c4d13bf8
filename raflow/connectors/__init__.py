"""Sources and sinks: one module, or one folder, per system."""
