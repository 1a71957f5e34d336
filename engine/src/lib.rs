//! walfan fans Postgres's write-ahead log out to hundreds of thousands of shapes.

mod consumer;
mod control;
mod engine;
mod feed;
mod flush;
mod log;
mod predicate;
mod report;
mod route;
mod run;
mod shard;
#[cfg(feature = "postgres")]
mod source;
mod sync;
mod words;

pub use consumer::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Factory, ReportError, Reporter,
    Start, Started,
};
pub use control::{Event, Failure};
pub use engine::{
    AddError, Builder, Engine, FloorRaiseError, Health, Metrics, PublishError, Publisher,
    ReadError, RemoveError, ShardMetrics, ShardReport, ShutdownReport, StartError, TryPublishError,
    WaitError,
};
pub use log::{LoggedChange, OpenError, Page, ReadLimits};
pub use predicate::{Position, WhereError};
#[cfg(feature = "postgres")]
pub use source::postgres::{
    AssembleError, DecodeError, FrameError, PostgresConfig, PostgresError, PostgresSource,
    PostgresState, PostgresStatus, PublishedTables,
};
pub use words::{
    ChangeRef, Column, Fragment, FragmentError, FragmentLimits, Handle, Lsn, Offset, Operation,
    ParseHandleError, ParseLsnError, ParseOffsetError, Relation, RowRef, ShapeDefinition, Slot,
    TableName, TransactionBuilder, Value,
};
