"""The service as a black box under load and faults: what many clients were told is held against what there is."""
