"""What runs in pods: nginx with its configuration, `gc.sh`, and programs that push the proof and attach the Secret.

A pod gets each program as one file of a ConfigMap and runs it in a plain image of nginx or of Python, so they import
nothing but the standard library, and nothing of each other.
"""
