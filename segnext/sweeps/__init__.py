"""Sweeps: the jobs of a `-m` command, each in a process of its own, and whose run folders tell what became of them."""
