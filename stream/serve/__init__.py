"""The HTTP side: metrics, health, and cameras that are changed while the pipeline runs.

`config` has the settings and loads without the web framework; `server` is what the pipeline starts.
"""

__all__: list[str] = []
