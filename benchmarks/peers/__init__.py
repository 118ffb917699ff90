"""What people use today for the same question, written as their documentation does it."""
