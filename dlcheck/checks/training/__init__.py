"""Claims about training loops: what a step computes, stores and costs."""
