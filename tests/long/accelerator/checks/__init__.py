"""Tests for a process that has the pretended accelerator; ``test_checks`` starts one for each file.

They are not called ``test_…``, so that nobody collects them where there is none.
"""
