"""One engine: plan, write, note. It knows neither Singer nor HTTP."""
