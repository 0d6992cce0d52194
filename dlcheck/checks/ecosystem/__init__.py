"""A subject survives the tools that its users put around it: copies, transforms, compilers."""
