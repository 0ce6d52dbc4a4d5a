"""`kaito operator`: its flags, and what runs in the process."""
