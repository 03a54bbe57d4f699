"""The configuration vocabulary, shipped as a package so that an installed wheel finds it."""
