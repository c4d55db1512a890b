"""Programs that try to find what must not be found: personal values in the clear, keys, and ways back to persons."""
