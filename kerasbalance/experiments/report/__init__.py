"""`report.html`: one self-contained page that shows what a run did, found and is worth."""
