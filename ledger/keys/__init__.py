"""Keys: names, the vault that holds them wrapped, the keyring before it, how they are destroyed and renewed."""
