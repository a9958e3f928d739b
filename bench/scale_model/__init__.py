"""A cluster of a lab mesh is recorded through its API, and played as the members of a larger one."""
