"""Everything about restic: its process, its repositories, and the REST server that it speaks to."""
