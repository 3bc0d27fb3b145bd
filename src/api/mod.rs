//! Rows and live state over HTTP on loopback, and the console.
//!
//! tokio lives here and nowhere else in the core: [`serve`] runs its own runtime on a thread of its own. What is under way comes
//! from the [`Hub`], what is done from the store's reader; an answer merges both. Must not know the pipeline.

mod assets;
mod content;
mod guard;
mod hub;
mod prometheus;
mod routes;
mod stream;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use hub::{Hub, Update};

use crate::store::Reader;

/// What `/api/health` says; called at each request, must be quick.
pub type Health = Arc<dyn Fn() -> Value + Send + Sync>;

/// What the server needs.
pub struct Config {
    /// Where it listens; [`bind`] makes it.
    pub listener: TcpListener,
    /// What is stored.
    pub reader: Arc<Reader>,
    /// What is under way.
    pub hub: Arc<Hub>,
    /// The health answer's source: an object with the fields of `docs/api.md`.
    pub health: Health,
}

/// Why the server cannot run. The text is one sentence that says what to do.
#[derive(Debug)]
pub enum ServeError {
    /// Somebody else has the port.
    PortTaken(u16),
    /// Anything else.
    Io(std::io::Error),
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServeError::PortTaken(port) => {
                write!(f, "port {port} on 127.0.0.1 is taken: end what uses it, or choose another with --port")
            }
            ServeError::Io(error) => write!(f, "the console cannot be served: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// Listens on 127.0.0.1; port 0 chooses a free one.
///
/// # Errors
/// [`ServeError::PortTaken`] when somebody else listens there.
pub fn bind(port: u16) -> Result<TcpListener, ServeError> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => ServeError::PortTaken(port),
        _ => ServeError::Io(error),
    })
}

/// A running server.
pub struct Handle {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: open streams are ended, answers under way get a moment.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone when the server ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// What every handler sees.
pub(crate) struct Shared {
    pub reader: Arc<Reader>,
    pub hub: Arc<Hub>,
    pub health: Health,
    pub started: Instant,
}

/// Serves until the handle is stopped or dropped.
///
/// # Errors
/// When the runtime or the thread cannot be made.
pub fn serve(config: Config) -> Result<Handle, ServeError> {
    let Config { listener, reader, hub, health } = config;
    listener.set_nonblocking(true).map_err(ServeError::Io)?;
    let address = listener.local_addr().map_err(ServeError::Io)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_name("heron-api")
        .enable_all()
        .build()
        .map_err(ServeError::Io)?;
    let shared = Arc::new(Shared { reader, hub, health, started: Instant::now() });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name("heron-api".to_owned())
        .spawn(move || {
            runtime.block_on(run(listener, shared, stopped));
            runtime.shutdown_timeout(Duration::from_millis(200));
        })
        .map_err(ServeError::Io)?;
    Ok(Handle { address, stop: Some(stop), thread: Some(thread) })
}

async fn run(listener: TcpListener, shared: Arc<Shared>, stopped: tokio::sync::oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("the console cannot be served: {error}");
            return;
        }
    };
    let hub = Arc::clone(&shared.hub);
    let (ending, mut ended) = tokio::sync::watch::channel(false);
    let server = axum::serve(listener, routes::router(shared)).with_graceful_shutdown(async move {
        // A dropped sender stops the server too.
        let _ = stopped.await;
        hub.close();
        let _ = ending.send(true);
    });
    // Browsers keep connections open; they get a moment and no more.
    let cut = async move {
        if ended.wait_for(|ended| *ended).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        outcome = async { server.await } => if let Err(error) = outcome { tracing::error!("the console's server ended: {error}") },
        () = cut => {}
    }
}
