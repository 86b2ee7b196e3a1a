"""The commands of ``run.py``: one module per command, with one function that has its name."""
