"""What must end and when: policy packs, plans of what is due, legal holds, key destruction, certificates."""
