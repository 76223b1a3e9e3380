"""A bundle's life on this box: received, recorded, proposed, served, rolled back."""
