"""Configuration: TOML files to checked Structs."""
