"""Time and memory, with their uncertainty: clocks, paired ratios, throughput, saved bytes."""
