"""A crash-consistency model: what was done to the disk, what a crash may leave of it, and what must hold then.

``trace`` records every change that goes through the door, ``disk`` says what a process crash or a power cut may leave
of them, ``workload`` does what a log's users do, ``knowledge`` keeps what was promised to them, and ``verdict`` opens
what a crash left and checks it against that.
"""
