"""The gradient engine: is Jᵀv, as backward computes it, the derivative of what forward computes?

    function     what is differentiated, as a map from named real tensors to one real vector
    directions   where to look: random, within the domain, every tensor with an equal share
    judge        the verdict: two independent directions must agree, a kink is no error
    confirmation what survives other steps, and the noise of the gradient, is an alarm
    conditions   the same gradient under other circumstances: layouts, interleaved calls
    localise     which elements are wrong; diagnosis: why, in words
    examination  all of it, one after the other; check: the public face

Source: the definition of the derivative; numerics/differences.py.
"""
