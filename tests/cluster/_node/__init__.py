"""The cluster's own making: where it lives, its programs and their settings, its images, and what it must not leave behind."""
