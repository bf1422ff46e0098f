"""What every backend can be asked, the values that travel, and how a backend refuses or fails.

A backend runs workloads of workspaces: an agent's process with its disk, on an engine. Every call
takes a deadline in seconds, may be cancelled, and may be made twice: the second call finds what the
first one did. A backend that cannot do something raises `Refused`, and never does nothing instead.
"""
