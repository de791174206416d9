"""How well a pack speaks: pure measures, outside judges, the run over items, the report."""
