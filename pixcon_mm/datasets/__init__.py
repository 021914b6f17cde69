"""Scene images and two-view transforms, registered in mmpretrain."""
