"""One module per figure or table, the `ra3` command, and the records of runs."""
