"""The one place that states the version.

>>> [part.isdigit() for part in __version__.split(".")[:2]]
[True, True]
"""

__version__ = "0.1.0"
