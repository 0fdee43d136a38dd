"""What the matrix of container runtimes needs: a machine to run them on, their configurations, and one cell's steps."""
