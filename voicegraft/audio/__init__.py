"""Audio in and out: files, spectra and seamless chunks."""
