"""Hydra looks for plugins in this namespace alone; the launchers and the search live in segnext/sweeps.

The underscore keeps Hydra from importing them for every command: the runners that sweep register them.
"""

from segnext.sweeps.launcher import ClusterLauncher, IsolatedLauncher
from segnext.sweeps.search import Search

__all__ = ["ClusterLauncher", "IsolatedLauncher", "Search"]
