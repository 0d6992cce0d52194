"""Foreign code, and what it may do to the process that calls it: refused, put back, or named.

    guarded          a call; whatever it raises becomes SubjectRaised
    contained        a trial; what it changes in the process is put back, what it leaves is named
    restored_state   a part of a trial; random streams, switches of torch, environment
    time_limit       seconds; rings again where the ringing was swallowed
    memory_limit     bytes beyond what the process has

What native code does to its own process (a fault, an endless loop) cannot be stopped from inside:
see `dlcheck.crashes`.
"""

from dlcheck.isolation.calls import guarded as guarded
from dlcheck.isolation.containment import contained as contained
from dlcheck.isolation.listening import compared as compared
from dlcheck.isolation.listening import heard_by as heard_by
from dlcheck.isolation.listening import unheard as unheard
from dlcheck.isolation.memory_limit import memory_limit as memory_limit
from dlcheck.isolation.time_limit import last_resort as last_resort
from dlcheck.isolation.time_limit import no_time_limit as no_time_limit
from dlcheck.isolation.time_limit import time_limit as time_limit
from dlcheck.isolation.torch_state import kept_buffers as kept_buffers
from dlcheck.isolation.torch_state import restored_state as restored_state
from dlcheck.isolation.torch_state import seed_everything as seed_everything
