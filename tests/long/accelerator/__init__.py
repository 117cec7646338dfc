"""An accelerator without one: the course is run on a device that this machine has not got.

``device``     makes the pretended accelerator, called ``mock``, the one of this process
``memory``     its tensors: real tensors of that device, whose memory the CPU can read
``kernels``    its operations: computed on the CPU, after refusing what a GPU refuses; the cells of
               LSTM and GRU are in ``recurrent``, random numbers in ``generators``, mixed precision
               in ``autocast``
``stand_ins``  what a compiled backend brings along and Python can't register
``plugged``    the variables with which a process has it: torch then loads it from ``plug``, as it
               loads any backend
``checks``     tests for such a process, which ``test_checks`` starts
"""
