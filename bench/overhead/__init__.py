"""What each policy costs a call, beside what people would use instead.

Every subject is measured in one process, in blocks that take turns, less a bare call of the same
function with as many checkpoints.
"""
