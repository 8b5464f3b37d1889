"""What several tests share: models and candidates made up on the spot, servers, references."""
