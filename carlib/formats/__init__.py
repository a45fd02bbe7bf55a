"""Tables written down: LaTeX for papers, Markdown for pages."""
