"""What a reader sees: pages in a real browser.

``pages``      a page that is watched for errors, and looked at
``notebooks``  a notebook open in JupyterLab: run all, type into a cell, what it then holds
``explorers``  the controls below a cell, moved
``looks``      figures, contrast, what is cut off
"""
