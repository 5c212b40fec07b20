"""What runs in restored pods after their volumes were filled: init containers and commands.

``parse``: what annotations and spec ask for. ``inject``: init containers. ``decide``: what to do
next about one pod. ``record``: what stands outside this process. ``driver``: the hooks of all
restores of this process. ``outcome``: what is told.
"""
