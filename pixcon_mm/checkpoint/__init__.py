"""Files of weights: read, renamed, filled into models, exported."""
