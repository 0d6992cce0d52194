"""What is true of every augmentation: images that carry their label, place and number as pixels."""
