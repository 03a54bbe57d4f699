"""What the commands share: their settings (``schema``), and the way from a command line to a checked object of them."""
