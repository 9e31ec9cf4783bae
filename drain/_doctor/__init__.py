"""What `drain doctor` knows: manifests, pairs of settings and processes are read (reading, model, pair, process), and rules
say what in them would lose calls (rules/: a function each). Nothing here prints, and only `live` asks anybody.
"""
