"""How fast this is, measured against other ways of doing the same on one machine.

A leaf: nothing imports it. `bash bin/benchmark.sh` runs it (`main`).
"""
