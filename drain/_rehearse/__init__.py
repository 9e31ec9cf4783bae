"""What `drain rehearse` is made of: load on a method of the user's, pods that are watched, what is done to them, a report."""
