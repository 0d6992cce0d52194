"""Claims that tell an implementation that computes from one that only looks as if it did.

A subject may give right numbers for wrong reasons: it finds them in a cache, in memory that
nobody initialised, beyond the end of its input, in the result of its reference, or it changes
the judge. Each claim here puts the subject where such a reason fails and an honest computation
does not notice.

What no check inside a process can see: code that goes out of its way to recognise that it is
being checked (it may walk our stack, read our modules and seeds, trace us with ptrace, or write
into the pipe that carries our report), a write that comes long after the call, and memory that
other processes share. Run what you do not trust in a process, or a container, of its own, and
compare its answers outside.
"""
