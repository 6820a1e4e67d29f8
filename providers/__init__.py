"""The outside world: protocols that the program calls, and the clients that implement them."""
