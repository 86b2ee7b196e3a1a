"""Hashes of one password, as Django 5 and passlib 1.7 write them."""

PASSWORD = "correct horse"

HASHES = {
    "passlib sha1": "$pbkdf2$1000$2bvXOkfovVcKofR.7z2n9A$lbuDANru0aMIOFFDAjwM00NapNU",
    "passlib sha256": (
        "$pbkdf2-sha256$1000$p9T6nxOC0BpDSAkB4HxvDQ$5RPlbGQOSb5E5HoZQZ3sJrEl4SxPCrJaI10UN6iCuUw"
    ),
    "passlib sha512": (
        "$pbkdf2-sha512$1000$K.Wcs9b6f48xJqR0zpmz9g"
        "$sILvFQ5Fg3p9BZ7UfjlvsqF1nfrkOEGZPOXtnTqdYdGHVBxvN8tRy7ic0qr/Gz4r0toq7CpgVZX6HvFuLm.gkw"
    ),
    "passlib scrypt": (
        "$scrypt$ln=8,r=8,p=1$tTaG0Npby/m/9z6HsPbemw$28QcxbR752rrkioKIvbkIhC0ayQOtJyWmrZuimYUs3U"
    ),
    "django sha256": (
        "pbkdf2_sha256$1000$c2FsdHNhbHQ$81QK9Cb/1+EuGjkCuMfLe/JwVi7vEf5rZfyS/DgplIk="
    ),
    "django sha1": "pbkdf2_sha1$1000$c2FsdHNhbHQ$/xKb2YnFvUdbMR3UReUQPavw4H8=",
    "django scrypt": (
        "scrypt$256$c2FsdHNhbHQ$8$5"
        "$PiCnj8g0AxEyAYH9c5b6ZoLmn/U/KY9qmS7rz2xeY2IEmcAD5Eu6+5nyhKcmhug2v9aw8Npjrb0DzkPTUXxZ3A=="
    ),
    "django argon2": (
        "argon2$argon2id$v=19$m=102400,t=2,p=8"
        "$YzJGc2RITmhiSFE$P+XHhcp4q2mgVTVvEEGTZo4YMz90dcyELxPWPW0VYyQ"
    ),
    "django bcrypt": "bcrypt$$2b$04$fW/aYDx4A3vpzp3dydLXzeeQ.pjGSDYFQQ62YQEVmidqFije99Rl.",
}

ABSURD = {
    "memory of argon2": "$argon2id$v=19$m=4194304,t=1,p=1$" + "A" * 22 + "$" + "A" * 43,
    "passes of argon2": "$argon2id$v=19$m=1024,t=4000,p=1$" + "A" * 22 + "$" + "A" * 43,
    "lanes of argon2": "$argon2id$v=19$m=102400,t=1,p=9999$" + "A" * 22 + "$" + "A" * 43,
    "memory of scrypt": "$scrypt$ln=31,r=8,p=1$" + "A" * 22 + "$" + "A" * 43,
    "exponent of scrypt": "$scrypt$ln=99,r=8,p=1$" + "A" * 22 + "$" + "A" * 43,
    "rounds of scrypt": "scrypt$255$salt$8$1$" + "A" * 86 + "==",
    "time of scrypt": "scrypt$131072$salt$8$16$" + "A" * 86 + "==",
    "block of scrypt": "scrypt$2$salt$524288$16$" + "A" * 86 + "==",
    "rounds for the block of scrypt": "scrypt$65536$salt$1$1$" + "A" * 86 + "==",
    "rounds of PBKDF2": "$pbkdf2-sha256$4000000000$" + "A" * 22 + "$" + "A" * 43,
    "no rounds of PBKDF2": "pbkdf2_sha256$0$salt$" + "A" * 43 + "=",
    "length of PBKDF2": "$pbkdf2-sha512$1000$" + "A" * 22 + "$" + "A" * 43,
    "cost of bcrypt": "$2b$31$" + "." * 53,
    "low cost of bcrypt": "$2b$03$" + "." * 53,
    "salt of bcrypt": "$2b$12$" + "." * 21 + "a" + "." * 31,
    "checksum of bcrypt": "$2b$12$" + "." * 52 + "b",
    "salt of argon2": "$argon2id$v=19$m=1024,t=1,p=1$" + "A" * 21 + "B$" + "A" * 43,
    "length of the salt of argon2": "$argon2id$v=19$m=1024,t=1,p=1$" + "A" * 21 + "$" + "A" * 43,
    "checksum of argon2": "$argon2id$v=19$m=1024,t=1,p=1$" + "A" * 22 + "$" + "A" * 42 + "B",
    "leading zero of argon2": "$argon2id$v=19$m=01024,t=1,p=1$" + "A" * 22 + "$" + "A" * 43,
    "md5": "md5$salt$" + "a" * 32,
    "plain text": "correct horse",
    "empty": "",
    "base64": "pbkdf2_sha256$1000$salt$" + "A" * 42 + "==",
}
"""Hashes that must not be verified: they take too much, or are malformed."""
