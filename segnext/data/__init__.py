"""Class tables, datasets, augmentation and the loaders. Free of Jittor: worker processes import it."""
