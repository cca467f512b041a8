"""What runs have come to: results, statistics, pictures, pages."""
