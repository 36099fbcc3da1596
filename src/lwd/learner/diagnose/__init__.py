"""Can this critic be trusted with a policy? Measured on episodes that nothing was trained on."""
