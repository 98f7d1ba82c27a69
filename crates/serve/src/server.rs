//! `Server`: a listener, connections with time limits, and a stop that finishes what runs.

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::app::{App, router};
use crate::engine::Engine;
use crate::media::Media;
use crate::options::{Limits, Options};
use crate::service::Service;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The system refused.
    #[error("{what}: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Its reason.
        reason: std::io::Error,
    },
    /// An address that others reach, without a token.
    #[error(
        "{0} can be reached from other machines; pass --token TOKEN, which every request must then show, or serve on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// A token of nothing.
    #[error("the token is empty; give one that cannot be guessed")]
    EmptyToken,
    /// A folder that cannot be listed.
    #[error("{path}: {reason}")]
    Media {
        /// The folder.
        path: String,
        /// Why.
        reason: std::io::Error,
    },
}

/// A server that runs on threads of its own.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Server {
    /// Serves in the background until [`Server::stop`].
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn start(listener: TcpListener, engine: impl Engine, options: Options) -> Result<Self, ServeError> {
        let addr = listener.local_addr().map_err(system("the listener's address"))?;
        let app = app(addr, engine, options)?;
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let run = move || block_on(listener, app, async move { stopped.notified().await });
        let thread = std::thread::Builder::new().name("http".into()).spawn(run).map_err(system("a thread"))?;
        Ok(Self { addr, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more requests, finishes those that run, and ends.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn stop(mut self) -> Result<(), ServeError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ServeError> {
        self.stop.notify_one();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(done)) => done,
            _ => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Serves on this thread until the process is told to end (interrupt or terminate), finishes what runs, and returns. `ready` is
/// called with the address once requests are answered.
///
/// # Errors
/// See [`ServeError`].
pub fn run(
    listener: TcpListener,
    engine: impl Engine,
    options: Options,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let addr = listener.local_addr().map_err(system("the listener's address"))?;
    let app = app(addr, engine, options)?;
    ready(addr);
    block_on(listener, app, signal())
}

fn app(addr: SocketAddr, engine: impl Engine, options: Options) -> Result<Arc<App>, ServeError> {
    match &options.token {
        Some(token) if token.trim().is_empty() => return Err(ServeError::EmptyToken),
        None if !addr.ip().is_loopback() => return Err(ServeError::Open(addr)),
        _ => {}
    }
    let media = match &options.media {
        Some(folder) => {
            let reason = |reason| ServeError::Media { path: folder.display().to_string(), reason };
            Some(Media::open(folder).map_err(reason)?)
        }
        None => None,
    };
    let service = Service::start(engine, options.limits.clone()).map_err(system("the model thread"))?;
    Ok(Arc::new(App { service, options, media }))
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> ServeError {
    move |reason| ServeError::System { what, reason }
}

fn block_on(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
    let runtime = runtime.map_err(system("the runtime"))?;
    listener.set_nonblocking(true).map_err(system("the listener"))?;
    let done = runtime.block_on(serve(listener, &app, stop));
    app.service.stop();
    done
}

async fn serve(listener: TcpListener, app: &Arc<App>, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(system("the listener"))?;
    let limits = app.options.limits.clone();
    let (routes, graceful) = (router(app), GracefulShutdown::new());
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut stop = std::pin::pin!(stop);
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit,
            () = &mut stop => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = stream else {
            // Out of file descriptors, for one: others end, and then it goes on.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let connection = connect(stream, routes.clone(), &limits, &graceful);
        tokio::spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(limits.deadline + limits.body_timeout, graceful.shutdown()).await;
    Ok(())
}

/// A connection until it ends, or until nothing was read or written for as long as a request may take.
fn connect(stream: TcpStream, routes: Router, limits: &Limits, graceful: &GracefulShutdown) -> impl Future<Output = ()> + use<> {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let quiet = limits.deadline + limits.head_timeout;
    let progress = Progress::new();
    let stream = TokioIo::new(Watched { stream, progress: progress.clone() });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(64 << 10);
    let connection = graceful.watch(builder.serve_connection(stream, TowerToHyperService::new(routes)));
    async move {
        tokio::select! {
            // What went wrong is the client's, and it has gone.
            _ = connection => {}
            () = progress.stopped_for(quiet) => {}
        }
    }
}

async fn signal() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

/// When bytes last moved, in milliseconds since the connection began.
#[derive(Debug, Clone)]
struct Progress {
    begun: Instant,
    last: Arc<AtomicU64>,
}

impl Progress {
    fn new() -> Self {
        Self { begun: Instant::now(), last: Arc::default() }
    }

    fn touch(&self) {
        self.last.store(self.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    async fn stopped_for(&self, time: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let still = self.begun.elapsed().saturating_sub(last);
            if still >= time {
                return;
            }
            tokio::time::sleep(time - still).await;
        }
    }
}

/// A stream that tells when bytes move.
struct Watched {
    stream: TcpStream,
    progress: Progress,
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let poll = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.progress.touch();
        }
        poll
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(1..)) = poll {
            this.progress.touch();
        }
        poll
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
