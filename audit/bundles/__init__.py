"""Evidence bundles: what is collected for one question, disclosed where asked and permitted, and written as one zip."""
