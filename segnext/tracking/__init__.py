"""The record of a run: its folder, the event log, and the mirrors and displays that read it."""
