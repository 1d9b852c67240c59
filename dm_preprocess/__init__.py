"""Patients and files: from a data set's own format to PNGs and tables with ids.

Nothing here imports tensorflow or keras, so conversion runs on a machine without them.
"""
