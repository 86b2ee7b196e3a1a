"""Sign in through identity providers: OpenID Connect and GitHub."""
