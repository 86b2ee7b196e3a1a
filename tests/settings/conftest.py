"""A secret that the settings accept."""

SECRET = "fdIbzyCcQKIdGhUkxEVrQnCoZ0hAYw7kNUAs"
