"""The programs that run in the registry's pod.

The pod gets each of them as one file of a ConfigMap and runs it in a plain Python image, so they import nothing but the
standard library, and nothing of each other.
"""
