"""A table of how long single layers take, at the widths that occur."""
