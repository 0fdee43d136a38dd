"""The doctor says of every node whether it trusts the registry, and if not, what is broken and how to mend it.

    .venv/bin/python -m trust.doctor [--stack STACK]

`read` gathers facts from the stack's state, the Kubernetes API and the agents, whose pods run `agent.probe` for it.
`judge` turns facts into verdicts; it reads and changes nothing outside of them.
What the doctor does not do: change anything, on the cluster or in the stack.
"""
