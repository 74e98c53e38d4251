"""What ``main.py`` can be asked for, a module each, and how each of them is wired to its exchange."""
