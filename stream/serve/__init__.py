"""The HTTP server: metrics, health, and changes of cameras while the pipeline runs.

`config` contains the settings and can be imported without the web framework. `server` contains the
class that the pipeline starts.
"""

__all__: list[str] = []
