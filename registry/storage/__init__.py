"""Where the registry keeps its images: on a volume, in the memory of the pod's node, or in a bucket."""
