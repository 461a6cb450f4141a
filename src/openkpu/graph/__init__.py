"""The compiler's intermediate representation: small, typed, printable as text."""
