"""A small ADB daemon for tests: a phone as far as the real `adb` client can tell."""
