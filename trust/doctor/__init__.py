"""The doctor: for every node, whether it trusts the registry, and else which link is broken and how to mend it.

    .venv/bin/python -m trust.doctor [--stack STACK]

`read` gathers facts from the stack's state, the Kubernetes API and the agents; `judge` turns facts into verdicts and
touches nothing; `probe` is the program that an agent's pod runs for it.
What it does not do: change anything, on the cluster or in the stack.
"""
