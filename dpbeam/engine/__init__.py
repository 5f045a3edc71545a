"""How a query is answered on Arrow and NumPy, without Beam: kernels in the order of the data."""
