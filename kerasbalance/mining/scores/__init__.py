"""Ways to tell which samples are hard: one number for each sample, from 0 (hard) to 1 (easy)."""
