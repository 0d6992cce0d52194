"""Other frameworks' loops, loaders and metrics, called as dlcheck calls those of its kinds.

Each module imports its framework when it is used, and no other does: dlcheck needs none of them.
"""
