"""Statements of the theory as code: bounds, and what they bound."""
