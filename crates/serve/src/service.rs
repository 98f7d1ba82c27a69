//! `Service`: one model thread behind a bounded queue, with deadlines, cancellation and kept encodings; no HTTP.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use image::RgbImage;
use models::Question;
use pil_ops::{Decode, Image};
use tokio::sync::oneshot;

use crate::engine::{Answer, Engine, EngineError, ModelInfo};
use crate::kept::{ImageId, KeptImage, KeptImages, Occupancy};
use crate::metrics::{Metrics, count};
use crate::options::Limits;
use crate::refusal::Refusal;

/// Questions that go to the model together, between two looks at whether anybody still waits.
const QUESTIONS_PER_PASS: usize = 8;

/// An image as a request names it.
#[derive(Debug, Clone)]
pub enum ImageSource {
    /// A file's bytes.
    File(Bytes),
    /// One that was encoded before.
    Kept(ImageId),
}

/// What is asked of the model thread.
#[derive(Debug, Clone)]
pub enum Work {
    /// Encode an image and keep it.
    Encode,
    /// Answer questions about it; with `instances` parts of masks apart.
    Ask {
        /// The questions.
        questions: Vec<Question>,
        /// Whether parts are told apart.
        instances: bool,
    },
    /// Draw where text and image attend to each other.
    Attention {
        /// About what.
        sentence: String,
    },
}

/// Milliseconds by stage.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stages {
    /// In the queue.
    pub queue: f64,
    /// Decoding the image file.
    pub decode: f64,
    /// The image encoder; 0 for a kept image.
    pub encode: f64,
    /// From sentences and prompts to masks.
    pub ask: f64,
}

/// What the model thread answers.
#[derive(Debug)]
pub struct Done {
    /// The image.
    pub id: ImageId,
    /// Its columns, upright.
    pub width: usize,
    /// Its rows.
    pub height: usize,
    /// Whether it was encoded before.
    pub kept: bool,
    /// One per question.
    pub answers: Vec<Answer>,
    /// The drawing of [`Work::Attention`].
    pub drawing: Option<RgbImage>,
    /// Times.
    pub ms: Stages,
}

struct Job {
    image: JobImage,
    work: Work,
    arrived: Instant,
    deadline: Instant,
    reply: oneshot::Sender<Result<Done, Refusal>>,
}

enum JobImage {
    File(ImageId, Bytes),
    /// Held by the job itself, so that no eviction comes between.
    Kept(Arc<KeptImage>),
}

/// A model thread and what leads to it.
#[derive(Debug)]
pub struct Service {
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    alive: Arc<AtomicBool>,
    kept: Arc<KeptImages>,
    metrics: Arc<Metrics>,
    info: ModelInfo,
    limits: Limits,
}

impl Service {
    /// Starts the model thread.
    ///
    /// # Errors
    /// A system that gives no thread.
    pub fn start(engine: impl Engine, limits: Limits) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(limits.queue.max(1));
        let info = engine.info();
        let (kept, metrics) = (Arc::new(KeptImages::new(limits.kept_bytes)), Arc::new(Metrics::default()));
        let alive = Arc::new(AtomicBool::new(true));
        let worker = Worker { engine, kept: Arc::clone(&kept), metrics: Arc::clone(&metrics), limits: limits.clone() };
        let flag = Arc::clone(&alive);
        let thread = std::thread::Builder::new().name("model".into()).spawn(move || {
            worker.work(&receiver);
            flag.store(false, Ordering::Release);
        })?;
        Ok(Self { queue: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), alive, kept, metrics, info, limits })
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What a request may cost.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts and times.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How full the store of encoded images is.
    pub fn occupancy(&self) -> Occupancy {
        self.kept.occupancy()
    }

    /// Forgets an encoded image; whether it was there.
    pub fn forget(&self, id: &ImageId) -> bool {
        self.kept.remove(id)
    }

    /// Whether requests are taken.
    pub fn is_ready(&self) -> bool {
        self.alive.load(Ordering::Acquire) && self.lock_queue().is_some()
    }

    /// Hands work to the model thread and waits for its answer. Whoever drops the future cancels the work.
    ///
    /// # Errors
    /// A full queue, an image that cannot be used or is not kept, a question that makes no sense, a deadline that has passed.
    pub async fn submit(&self, image: ImageSource, work: Work) -> Result<Done, Refusal> {
        let image = self.find(image, &work)?;
        let (reply, answer) = oneshot::channel();
        let arrived = Instant::now();
        let deadline = arrived + self.limits.deadline;
        self.enqueue(Job { image, work, arrived, deadline, reply })?;
        match tokio::time::timeout(self.limits.deadline, answer).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(Refusal::stopping()),
            Err(_) => {
                count(&self.metrics.late);
                Err(Refusal::late(self.limits.deadline.as_secs_f64()))
            }
        }
    }

    /// Ends the model thread when it has done what waits.
    pub fn stop(&self) {
        self.lock_queue().take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread was counted where it happened.
            let _ = thread.join();
        }
    }

    /// The image of a request: kept, or a file whose header promises an image within the limits. Attention maps are drawn over the
    /// file itself, whose pixels no encoding has.
    fn find(&self, image: ImageSource, work: &Work) -> Result<JobImage, Refusal> {
        match image {
            ImageSource::Kept(id) => self.kept.get(&id).map(JobImage::Kept).ok_or_else(|| gone(&id)),
            ImageSource::File(bytes) => {
                let id = ImageId::of(&bytes);
                let needs_pixels = matches!(work, Work::Attention { .. });
                if !needs_pixels && let Some(kept) = self.kept.get(&id) {
                    return Ok(JobImage::Kept(kept));
                }
                decode(&self.limits).check(&bytes)?;
                Ok(JobImage::File(id, bytes))
            }
        }
    }

    fn enqueue(&self, job: Job) -> Result<(), Refusal> {
        let queue = self.lock_queue();
        let Some(sender) = queue.as_ref() else { return Err(Refusal::stopping()) };
        // Counted before the thread can take it.
        self.metrics.waiting.fetch_add(1, Ordering::Relaxed);
        sender.try_send(job).map_err(|error| {
            self.metrics.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => {
                    count(&self.metrics.refused);
                    let seconds = (self.metrics.mean_seconds() * self.limits.queue as f64 / 2.0).ceil().clamp(1.0, 600.0);
                    Refusal::busy(self.limits.queue, seconds as u64)
                }
                TrySendError::Disconnected(_) => Refusal::failed("the model thread has ended; start the server again"),
            }
        })
    }

    fn lock_queue(&self) -> std::sync::MutexGuard<'_, Option<SyncSender<Job>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

fn gone(id: &ImageId) -> Refusal {
    let id = id.as_str();
    Refusal::not_found(format!("no image {id} is kept: it was never sent here or was dropped for others; POST /v1/images again"))
}

fn decode(limits: &Limits) -> Decode {
    Decode { max_pixels: limits.pixels, ..Decode::UPRIGHT }
}

/// What the model thread owns.
struct Worker<E> {
    engine: E,
    kept: Arc<KeptImages>,
    metrics: Arc<Metrics>,
    limits: Limits,
}

impl<E: Engine> Worker<E> {
    fn work(&self, jobs: &Receiver<Job>) {
        while let Ok(Job { image, work, arrived, deadline, reply }) = jobs.recv() {
            self.metrics.waiting.fetch_sub(1, Ordering::Relaxed);
            let begun = Instant::now();
            let halt = || match (reply.is_closed(), Instant::now() > deadline) {
                (true, _) => Err(Refusal::new(axum::http::StatusCode::GATEWAY_TIMEOUT, "left", "the client left")),
                (_, true) => Err(Refusal::late(self.limits.deadline.as_secs_f64())),
                _ => Ok(()),
            };
            let queue = milliseconds(begun - arrived);
            let done = catch_unwind(AssertUnwindSafe(|| self.run(image, &work, &halt)));
            let done = done.unwrap_or_else(|_| {
                count(&self.metrics.panics);
                Err(Refusal::failed("the model failed on this request; others are still answered"))
            });
            self.metrics.time("queue", begun - arrived);
            self.metrics.time("model", begun.elapsed());
            let done = done.map(|done| Done { ms: Stages { queue, ..done.ms }, ..done });
            if reply.send(done).is_err() {
                count(&self.metrics.cancelled);
            }
        }
    }

    fn run(&self, image: JobImage, work: &Work, halt: &dyn Fn() -> Result<(), Refusal>) -> Result<Done, Refusal> {
        halt()?;
        let mut ms = Stages::default();
        if let (Work::Attention { sentence }, JobImage::File(id, bytes)) = (work, &image) {
            let image = self.decoded(bytes, &mut ms)?;
            halt()?;
            let begun = Instant::now();
            let drawing = self.engine.attention(&image, sentence)?;
            ms.ask = milliseconds(begun.elapsed());
            let (width, height) = (image.width(), image.height());
            return Ok(Done { id: id.clone(), width, height, kept: false, answers: Vec::new(), drawing: Some(drawing), ms });
        }
        let (image, kept) = self.encoded(image, &mut ms, halt)?;
        let mut answers = Vec::new();
        if let Work::Ask { questions, instances } = work {
            let begun = Instant::now();
            inside(questions, image.encoded.width, image.encoded.height)?;
            for group in questions.chunks(QUESTIONS_PER_PASS) {
                halt()?;
                answers.extend(self.engine.ask(&image.encoded, group, *instances)?);
            }
            ms.ask = milliseconds(begun.elapsed());
            self.metrics.time("ask", begun.elapsed());
        }
        let (width, height) = (image.encoded.width, image.encoded.height);
        Ok(Done { id: image.id.clone(), width, height, kept, answers, drawing: None, ms })
    }

    /// The image's encoding, made unless it is kept: another request may have made it while this one waited.
    fn encoded(
        &self,
        image: JobImage,
        ms: &mut Stages,
        halt: &dyn Fn() -> Result<(), Refusal>,
    ) -> Result<(Arc<KeptImage>, bool), Refusal> {
        let (id, bytes) = match image {
            JobImage::Kept(kept) => {
                count(&self.metrics.hits);
                return Ok((kept, true));
            }
            JobImage::File(id, bytes) => (id, bytes),
        };
        if let Some(kept) = self.kept.get(&id) {
            count(&self.metrics.hits);
            return Ok((kept, true));
        }
        let decoded = self.decoded(&bytes, ms)?;
        drop(bytes);
        halt()?;
        let begun = Instant::now();
        let encoded = self.engine.encode(&decoded)?;
        ms.encode = milliseconds(begun.elapsed());
        self.metrics.time("encode", begun.elapsed());
        count(&self.metrics.encoded);
        let image = Arc::new(KeptImage { id, encoded });
        self.kept.insert(Arc::clone(&image));
        Ok((image, false))
    }

    fn decoded(&self, bytes: &[u8], ms: &mut Stages) -> Result<Image, Refusal> {
        let begun = Instant::now();
        let image = decode(&self.limits).bytes(bytes)?;
        ms.decode = milliseconds(begun.elapsed());
        self.metrics.time("decode", begun.elapsed());
        Ok(image)
    }
}

/// Fails unless every click and box lies in an image of `width` x `height`.
fn inside(questions: &[Question], width: usize, height: usize) -> Result<(), Refusal> {
    let (right, bottom) = (width as f64, height as f64);
    let place = format!("the image, which is {width} x {height} pixels (width x height)");
    for Question { prompt, .. } in questions {
        if let Some([x, y]) = prompt.points.iter().find(|[x, y]| !(0.0..right).contains(x) || !(0.0..bottom).contains(y)) {
            return Err(Refusal::invalid(format!("the point ({x}, {y}) lies outside {place}")));
        }
        if let Some([x0, y0, x1, y1]) = prompt.bbox
            && !(x0 >= 0.0 && y0 >= 0.0 && x1 <= right && y1 <= bottom)
        {
            return Err(Refusal::invalid(format!("the box ({x0}, {y0}, {x1}, {y1}) reaches outside {place}")));
        }
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Question(what) => Self::invalid(what),
            EngineError::Failed(what) => Self::failed(what),
        }
    }
}
