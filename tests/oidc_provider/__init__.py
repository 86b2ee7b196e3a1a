"""The npm package ``oidc-provider``: a certified OpenID provider, as a process of its own."""
