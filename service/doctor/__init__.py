"""Check an installation: ``python run.py doctor``. One module per subject."""
