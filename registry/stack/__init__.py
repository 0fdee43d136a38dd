"""The stack: which one this is, of which cluster, and whether that cluster can have it.

A stack is its namespace on one cluster, and nothing is done to others. `recorded` reads what the stack's state says,
`strangers` compares it with the cluster, `preflight` asks for all that can be known to go wrong, `provider` is the
connection that the state keeps, `identity` makes the namespace, and `guard` stops a `destroy` that goes astray. `gc` is
a command of its own, which frees space in a stack that is up.
"""
