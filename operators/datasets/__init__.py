"""Published data sets by name, from the places where their libraries keep them."""
