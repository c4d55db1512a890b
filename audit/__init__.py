"""What proves it to a stranger: the transparency log, evidence bundles, the offline verifier, exports."""
