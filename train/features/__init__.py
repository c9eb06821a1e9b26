"""Training on a frozen backbone, whose maps are computed once and kept on disk."""
