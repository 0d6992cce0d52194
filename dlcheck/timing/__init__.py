"""A subject timed beside a reference: built, held to its answers, doubted, measured."""
