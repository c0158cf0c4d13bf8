"""How large the pools are: one look at all of them, one joint decision with reasons."""
