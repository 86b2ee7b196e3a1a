"""The RealWorld API: profiles, articles, comments, favourites and tags."""
