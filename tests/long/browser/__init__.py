"""What a reader sees: pages in a real browser.

``pages``      a page that is watched for errors
``notebooks``  a notebook open in JupyterLab: run all, type into a cell, move a control
``looks``      figures, contrast, what is cut off
"""
