//! `Options` of a server and its `Limits`: address, token, what a request may cost.

use std::path::PathBuf;
use std::time::Duration;

/// What a request, a connection and the whole process may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Pixels of an image.
    pub pixels: u64,
    /// Questions of a request: sentences, boxes, or pairs of both.
    pub questions: usize,
    /// Characters of a sentence.
    pub sentence_chars: usize,
    /// Clicks of a question.
    pub points: usize,
    /// Instances that are told apart per question, the largest first.
    pub instances: usize,
    /// Requests that wait for the model.
    pub queue: usize,
    /// Bytes of encoded images that are kept.
    pub kept_bytes: usize,
    /// Connections at once.
    pub connections: usize,
    /// From a request's arrival to its answer.
    pub deadline: Duration,
    /// For a request's head; also how long an idle connection lives.
    pub head_timeout: Duration,
    /// For a request's body.
    pub body_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            pixels: 50_000_000,
            questions: 32,
            sentence_chars: 2000,
            points: 256,
            instances: 256,
            queue: 16,
            kept_bytes: 512 << 20,
            connections: 256,
            deadline: Duration::from_secs(120),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// How a server behaves towards its clients.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What every request must show, as `Authorization: Bearer TOKEN` or as the password of basic authentication.
    pub token: Option<String>,
    /// Origins whose pages may read answers, such as `https://example.org`.
    pub cors: Vec<String>,
    /// Folder whose images Label Studio's tasks may name: its media folder. Names are looked up in a listing of the folder;
    /// nothing else of a request reaches the disk.
    pub media: Option<PathBuf>,
    /// What a request may cost.
    pub limits: Limits,
}
