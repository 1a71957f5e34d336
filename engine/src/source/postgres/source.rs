//! The embedder's handle to the source.

use super::acks::Acks;
use super::assemble::Assembler;
use super::config::PostgresConfig;
use super::error::PostgresError;
use super::run::Run;
use super::status::{PostgresStatus, Shared};
use super::stream::{FAREWELL_MAX, Pump};
use crate::engine::{Engine, Publisher};
use crate::words::Lsn;
use crossbeam_channel::Sender;
use pg_walstream::CancellationToken;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A source that streams from a replication slot until it is stopped.
///
/// It prepares the server (publication, slot), announces the published tables to the engine, and
/// publishes what commits. The server is told to forget what every shape has flushed, and nothing
/// more. A connection that breaks is made again; an error that this does not cure ends the source,
/// see [`PostgresSource::status`]. A slot that is new, missing or moved invalidates all shapes
/// (INV11).
///
/// ```no_run
/// use std::sync::Arc;
/// use walfan::{Engine, PostgresConfig, PostgresSource};
///
/// let (engine, publisher) = Engine::builder().directory("/var/lib/walfan").start()?;
/// let engine = Arc::new(engine);
/// let config = PostgresConfig::new("host=/run/postgresql dbname=app");
/// let source = PostgresSource::start(Arc::clone(&engine), publisher, config)?;
/// // Tables are known from here on: add shapes.
/// let publisher = source.stop()?;
/// # drop(publisher);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PostgresSource {
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<JoinHandle<Publisher>>,
}

impl PostgresSource {
    /// Connects, prepares the server and starts to stream. Returns when streaming has begun, or
    /// with the reason why it cannot; later failures show in [`PostgresSource::status`].
    pub fn start(
        engine: Arc<Engine>,
        publisher: Publisher,
        config: PostgresConfig,
    ) -> Result<PostgresSource, PostgresError> {
        config.check()?;
        engine.require_durable().map_err(|handle| PostgresError::NotDurable { handle })?;
        let shared = Arc::new(Shared::default());
        let stop = CancellationToken::new();
        let pump = Pump {
            engine,
            publisher,
            assembler: Assembler::new(config.limits),
            acks: Acks::new(Lsn::ZERO),
            shared: Arc::clone(&shared),
            stop: stop.clone(),
            outbox: VecDeque::new(),
            transactions: 0,
        };
        let run = Run { pump, config, told: None };
        let (sender, started) = crossbeam_channel::bounded(1);
        let thread = std::thread::Builder::new()
            .name("walfan-postgres".into())
            .spawn(move || drive(run, sender))
            .map_err(|error| PostgresError::Thread { cause: error.to_string() })?;
        let source = PostgresSource { shared, stop, thread: Some(thread) };
        let ended = |_| PostgresError::Thread { cause: "it ended before it began".into() };
        started.recv().map_err(ended)??;
        Ok(source)
    }

    /// What it is doing.
    pub fn status(&self) -> PostgresStatus {
        self.shared.read()
    }

    /// Acknowledges what is flushed, closes the connection, and gives the publisher back. What was
    /// not acknowledged is sent again to the next source of this slot.
    pub fn stop(mut self) -> Result<Publisher, PostgresError> {
        self.stop.cancel();
        let panicked = || PostgresError::Thread { cause: "it panicked".into() };
        let thread = self.thread.take().ok_or_else(panicked)?;
        thread.join().map_err(|_| panicked())
    }
}

impl Drop for PostgresSource {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by the thread itself.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for PostgresSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSource").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// The thread's body: an async runtime that nothing outside this thread sees.
fn drive(mut run: Run, started: Sender<Result<(), PostgresError>>) -> Publisher {
    // One more thread, for syncs of the floor.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    match runtime {
        Ok(runtime) => {
            runtime.block_on(run.run(started));
            // A raise of the floor under way holds the engine; one that hangs is left to itself.
            runtime.shutdown_timeout(FAREWELL_MAX);
        }
        Err(error) => {
            // Whoever started the source waits for this one message.
            let _ = started.send(Err(PostgresError::Thread { cause: error.to_string() }));
        }
    }
    run.pump.publisher
}
