"""DICOM, read and written: where every voxel lies and what it means is in the headers."""
