"""The command-line verbs: `python -m runners.VERB`."""
