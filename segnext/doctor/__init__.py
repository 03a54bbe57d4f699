"""What works on this machine, and is a dataset sound? Nothing heavy is imported: it must survive a broken machine."""
