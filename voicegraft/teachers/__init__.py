"""What speaks the clean speech that others learn from: other systems, and packs, behind one protocol."""
