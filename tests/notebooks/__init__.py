"""How notebooks are tested: collected, held to a contract, run, and watched while they run.

``collection``  which tests a notebook has
``contract``    what must hold for a notebook's file
``running``     one run in a kernel of its own, written down by ``watcher`` from inside
``behaviour``   what must hold for a run; ``boards`` reads what it says about TensorBoard
``signatures``  types in ``helpers`` are enforced, in kernels too
``definitions`` a chapter's own functions, for the tests of ``helpers``
``summary``     what the terminal says at the end
``samples``     small notebooks for the tests of all this
"""
