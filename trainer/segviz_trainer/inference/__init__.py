"""From windows to a prediction on the native grid."""
