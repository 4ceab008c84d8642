"""What happens to the payloads of a batch between merging and writing."""
