"""A failure as a program: what a check did with the subject, recorded, cut down and written out.

run ─recorder─▶ Tape ─claims─▶ Claim ─slicing─▶ fewer nodes ─replay─▶ fails? ─wording─▶ text
"""
