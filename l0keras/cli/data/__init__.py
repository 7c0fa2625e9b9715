"""Examples of the user's, streamed as the model and its loss take them."""
