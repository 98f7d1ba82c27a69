//! RISAM: mutual-aware attention features for referring image segmentation
