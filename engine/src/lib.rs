//! walfan fans Postgres's write-ahead log out to hundreds of thousands of shapes.
//!
//! A *shape* is a table with a WHERE clause and some of its columns ([`ShapeDefinition`]), named by
//! a [`Handle`]. What commits reaches the engine as [`Fragment`]s of transactions through its one
//! [`Publisher`]. Every shard routes them to its shapes and writes them to its log, once, with the
//! sets of shapes that they went to; [`Engine::read`] reads one shape's log. A shape may have a
//! [`Consumer`] beside its log: behind a mailbox of its own, or inline on the shard's thread
//! ([`ConsumerSpec`]).
//!
//! What travels back is one number that only rises, the flushed LSN ([`Engine::flushed_lsn`]):
//! every transaction at or below it is durable, and reported as flushed by each consumer that owns
//! its acknowledgement ([`Ack::Consumer`]), or its shape is durably invalidated. A consumer that
//! dies is made again by its [`Factory`] and fed from the log; one that cannot be served costs its
//! own shape and nobody else's progress. [`Event`]s tell of both.
//!
//! With the feature `postgres`, `PostgresSource` publishes from a replication slot and acknowledges
//! the flushed LSN to the server; it needs libpq.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use walfan::{Ack, Column, Consumer, ConsumerError, ConsumerSpec, Context, Delivery};
//! use walfan::{Engine, Lsn, Relation, ShapeDefinition, Start, Started, TableName};
//! use walfan::{TransactionBuilder, Value};
//!
//! struct Printer;
//! impl Consumer for Printer {
//!     fn handle(&mut self, delivery: &Delivery<'_>, context: &mut Context<'_>)
//!     -> Result<(), ConsumerError> {
//!         println!("{} {:?} {:?}", delivery.offset(), delivery.operation(), delivery.new_row());
//!         if let Some(lsn) = delivery.commit() {
//!             context.flushed(lsn)?; // the flushed LSN waits for this, because of Ack::Consumer
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let (engine, mut publisher) = Engine::builder().start()?; // .directory("..") keeps it on disk
//! let columns = vec![Column::new("id", 20, true), Column::new("kind", 25, false)];
//! let items = Arc::new(Relation::new(16_384, TableName::new("public", "items"), columns));
//! engine.learn(Arc::clone(&items));
//! let factory = |start: &Start<'_>| Ok(Started::new(Box::new(Printer), start.resume()));
//! let consumer = ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer };
//! engine.add_shape(ShapeDefinition::filtered(items.table.clone(), "kind = 'hot'"), consumer)?;
//!
//! let mut transaction = TransactionBuilder::new(733, Lsn::new(0x1000));
//! transaction.insert(&items, [Value::Text(b"7"), Value::Text(b"hot")])?;
//! publisher.publish(transaction.commit(Lsn::new(0x1030)))?;
//! engine.wait_flushed(Lsn::new(0x1000), Duration::from_secs(10))?;
//! engine.shutdown(Duration::from_secs(10))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod catalog;
#[cfg(all(test, feature = "postgres"))]
#[path = "../tests/cluster/mod.rs"]
mod cluster;
mod consumer;
mod control;
mod engine;
mod feed;
mod flush;
mod log;
mod predicate;
mod prefetch;
mod report;
mod route;
mod run;
mod shard;
mod snapshot;
#[cfg(feature = "postgres")]
mod source;
mod sync;
mod words;

#[cfg(all(any(test, feature = "testing"), not(loom)))]
pub use engine::sim as testing;

pub use consumer::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Factory, ReportError, Reporter,
    Start, Started,
};
pub use control::{Event, Failure, Holder, HolderState};
pub use engine::{
    AddError, Builder, DefinitionError, Engine, FloorRaiseError, Health, Metrics, News,
    PublishError, Publisher, RaisedFloor, ReadError, RemoveError, ShardMetrics, ShardReport,
    ShutdownReport, SnapshotError, SnapshotLoader, StartError, Subscription, TryPublishError,
    WaitError,
};
pub use log::{LoggedChange, OpenError, Page, ReadLimits};
pub use predicate::{Position, WhereError};
pub use route::{ClauseIndex, CompiledClause, MatchError, Matches};
pub use snapshot::{
    ParsePgSnapshotError, PgSnapshot, Snapshot, SnapshotPage, SnapshotPosition, SnapshotRow,
};
#[cfg(feature = "postgres")]
pub use source::postgres::{
    AssembleError, DecodeError, FrameError, PostgresConfig, PostgresError, PostgresSource,
    PostgresState, PostgresStatus, PublishedTables,
};
pub use words::{
    ChangeRef, Column, ColumnValue, ColumnsError, Fragment, FragmentError, FragmentLimits, Handle,
    Lsn, Offset, Operation, ParseHandleError, ParseLsnError, ParseOffsetError, Relation, Replica,
    RowRef, ServerId, ShapeDefinition, Slot, TableName, TransactionBuilder, Value,
};

/// README.md's example is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
