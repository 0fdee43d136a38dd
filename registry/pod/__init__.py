"""What runs in the registry's pod: nginx with its configuration, the program that pushes the proof image, and `gc.sh`.

The pod gets each program as one file of a ConfigMap and runs it in a plain image of nginx or of Python, so they import
nothing but the standard library, and nothing of each other.
"""
