"""How notebooks are tested.

They are run by nbmake (see ``conftest.py`` of the course). Here stands what must hold for their
files (``contract``, ``prose``), and what other tests take out of them (``cells``, ``definitions``).
"""
