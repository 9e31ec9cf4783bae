"""The preStop hook's parts: drain/prestop.py runs them. Standard library only, and each import weighed."""
