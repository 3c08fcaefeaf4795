"""Binary codes: packing, Hamming distances, and scans over them."""
