"""What every other layer stands on: errors, types, configs, artifacts and the runtime."""
