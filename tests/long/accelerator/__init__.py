"""A pretended accelerator: the course runs on a device that this machine does not have.

``device``     makes the pretended accelerator, called ``mock``, the one of this process
``memory``     its tensors: real tensors of that device, whose memory the CPU can read
``kernels``    its operations: computed on the CPU, after refusing what a GPU refuses; random
               numbers are in ``generators``, mixed precision in ``autocast``
``stand_ins``  what a compiled backend brings along and Python can't register
``plugged``    the environment of a process that has it: torch then loads it from ``plug``, as it
               loads any backend
``checks``     tests for such a process, which ``test_checks`` starts

The course has no recurrent network and no attention on a device, so neither has this device.
"""
