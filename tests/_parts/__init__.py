"""The real parts that tests run against: found on this machine, else installed (Debian) or built (Go modules), once, with progress shown.

No image and no archive is downloaded. What is built stays in the user's cache folder. `python -m tests.kube` and
`python -m tests.cluster` have them ready before the tests need them; a test that misses one fails, and says what was tried.
"""
