"""The setup cell and the chapters as they run in Colab, on an emulated machine.

``machine``      a fresh machine, as far as the setup cell can tell
``environment``  an environment with Colab's versions, made by ``python -m tests.long.colab``
"""
