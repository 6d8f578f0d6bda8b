"""running: flags, models and the run folder. You may skip this folder: it is plumbing."""
