"""The gradient engine: is Jᵀv, as backward computes it, the derivative of what forward computes?

    function     what is differentiated, as a map from named real tensors to one real vector
    directions   where to look: random, within the domain, every tensor with an equal share
    judge        the verdict: two independent directions must agree, a kink is no error
    conditions   the same gradient under other circumstances: layouts, interleaved calls
    localise     which elements are wrong; diagnosis: why, in words
    means        steps that overlook what the point sees are no alarm
    examination  all of it, one after the other; check: the public face

Source: the definition of the derivative; numerics/differences.py.
"""
