//! CLIP's two towers (RISAM sec. 3.1, EVF-SAM tables 1, 3 and 6): OpenAI's and OpenCLIP's.

mod layer;
mod text;
mod vision;
mod weights;

pub use text::{ClipText, ClipTextConfig};
pub use vision::{ClipVision, ClipVisionConfig};
pub use weights::hugging_face_names;
