"""Outcomes to documents. Loads without torch, so a report needs no device to be rebuilt."""
