"""Random changes of images, vectorised over the batch, with what belongs to the images."""
