"""Authentication: API key and OAuth."""
