"""Tests for a process that has the pretended accelerator; ``test_checks`` starts one for each file.

Their names do not begin with ``test_``, so that pytest does not collect them elsewhere.
"""
