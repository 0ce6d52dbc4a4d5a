"""`kaito prices`: what the clouds' public lists say of the catalogue's machine sizes, kept in a file."""
