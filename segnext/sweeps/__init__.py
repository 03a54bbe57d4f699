"""Sweeps that survive the night: every job in its own process, a ledger of what became of it, and going on later."""
