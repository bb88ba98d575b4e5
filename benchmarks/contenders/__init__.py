"""What `quality.py` compares: the cases, and programs that train on them for so many CPU seconds."""
