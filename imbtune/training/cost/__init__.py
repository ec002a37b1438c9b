"""What training costs: image passes, and measured times."""
