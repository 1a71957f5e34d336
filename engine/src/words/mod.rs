//! The words that every other part speaks: positions, rows, changes, shapes. They know of nothing
//! above them.

mod change;
mod delivery;
mod fragment;
mod lsn;
mod offset;
mod relation;
mod server;
mod shape;
mod touched;
mod view;

pub use change::{ChangeRef, Operation, RowRef, Value};
pub use fragment::{Fragment, FragmentError, FragmentLimits, TransactionBuilder};
pub use lsn::{Lsn, ParseLsnError};
pub use offset::{Offset, ParseOffsetError};
pub use relation::{Column, Relation, TableName};
pub use server::ServerId;
pub use shape::{Handle, ParseHandleError, ShapeDefinition, Slot};
pub use view::{ColumnValue, ColumnsError, Replica};

pub(crate) use change::{Cell, Change, RowSpan};
pub(crate) use delivery::{Form, Formed, Routed, SharedSet, Targets};
pub(crate) use fragment::FragmentParts;
pub(crate) use touched::Touched;
pub(crate) use view::{ColumnSet, View};
