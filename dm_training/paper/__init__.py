"""The paper's tables and figures again, from DICOM files, by one command.

A leaf: nothing imports it. `bash bin/reproduce_paper.sh` runs it (`main`).
"""
