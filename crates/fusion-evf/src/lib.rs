//! EVF-SAM: early vision-language fusion for text-prompted Segment Anything
