"""A metric between two folders of images or two files of features, as `dlcheck metric` says it.

folders ─pictures─▶ batches ─extractors─▶ features ─┐
files ────────────────files────────────▶ features ─┴─score─▶ Score
"""
