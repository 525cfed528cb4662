"""How the development environment comes to be.  Nothing here is part of the installed package."""
