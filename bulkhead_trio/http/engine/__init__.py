"""The HTTP/1.1 engine: a core without input and output, and a thin shell on Trio."""
