"""What a reader sees: pages in a real browser.

``pages``      a page that is watched for errors, and looked at
``notebooks``  a notebook open in JupyterLab: run all, what it then holds
"""
