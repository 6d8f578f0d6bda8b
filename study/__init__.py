"""study: the samples, tables, pictures and page behind eval.py. You may skip it: the estimators are in passk.py."""
