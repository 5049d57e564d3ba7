"""Published models with their weights, each with the few lines that captum-apex needs to explain it."""
