"""Compares the runs of a sweep: a table, a chart of mIoU over cost, one HTML page. Reads run folders, nothing else."""
