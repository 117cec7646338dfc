"""Sphinx's settings. ``tools.site`` adds the repository's address and the downloads."""

project = "PyTorch by Experiment"
language = "en"
smartquotes = False  # a heading reads as in the notebook
extensions = ["myst_nb", "tools.site.mathml"]
exclude_patterns = ["extra"]

# The notebooks are executed before Sphinx sees them.
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["dollarmath"]
# Links of the notebooks hold JupyterLab's anchors.
myst_heading_anchors = 4
myst_heading_slug_func = "tools.site.markdown.anchor"

html_theme = "sphinx_book_theme"
html_title = project
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search is in the sidebar
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "use_repository_button": True,
}
html_context = {"default_mode": "auto"}
html_static_path = ["static"]
html_css_files = ["course.css"]
html_favicon = "static/favicon.svg"
html_use_index = False
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_math_renderer = "mathml"
