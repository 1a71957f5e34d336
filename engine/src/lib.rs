//! walfan fans Postgres's write-ahead log out to hundreds of thousands of shapes.

mod consumer;
mod control;
mod feed;
mod flush;
mod log;
mod predicate;
mod report;
mod route;
mod run;
mod sync;
mod words;

pub use words::{
    ChangeRef, Column, Fragment, FragmentError, FragmentLimits, Handle, Lsn, Offset, Operation,
    ParseHandleError, ParseLsnError, ParseOffsetError, Relation, RowRef, ShapeDefinition, Slot,
    TableName, TransactionBuilder, Value,
};
