"""What the demo needs beside the product: made-up people and their export files."""
