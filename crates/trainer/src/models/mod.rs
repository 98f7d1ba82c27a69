//! Adapters: each method as a [`Segmenter`](crate::segmenter::Segmenter).

mod dit;

pub use dit::Dit;
