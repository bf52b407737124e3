"""The app on a job, here or as a Space on the Hub."""
