"""Other frameworks' loops, called as dlcheck calls a training loop, an evaluation or a loader.

Each module imports its framework when it is used, and no other does: dlcheck needs none of them.
"""
