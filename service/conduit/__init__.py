"""The RealWorld half: profiles, articles, comments, favourites and tags."""
