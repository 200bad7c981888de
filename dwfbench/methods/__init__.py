"""What a method is, the phases of its training, and DWF as a method."""
