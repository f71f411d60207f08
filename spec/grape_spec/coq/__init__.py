"""Claims as Coq theorems: their statements, their proof scripts, and the runs of Coq that certify them."""
