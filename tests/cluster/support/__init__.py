"""What the tests on a real cluster share: the cluster, stacks on it, machines, clients and tables of cases."""
