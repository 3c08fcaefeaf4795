"""Using a trained model's codes to find things."""
