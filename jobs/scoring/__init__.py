"""What every job that scores candidates on Ray shares."""
