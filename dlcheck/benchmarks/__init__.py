"""Sweeps: what a study measures over batch sizes, one package a sweep."""
