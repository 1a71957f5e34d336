//! Error: why the catalog cannot be opened or written.

use std::io::ErrorKind;

/// See the file's head.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CatalogError {
    /// The disk refused.
    #[error("{file}: {what} failed: {source}; restart when the disk is well")]
    Disk { file: String, what: &'static str, source: Box<redb::Error> },
    /// The same, because there is no room.
    #[error(
        "{file}: {what} failed: {source}; there is no room: make some, then restart; nothing that \
         was durable is lost"
    )]
    Full { file: String, what: &'static str, source: Box<redb::Error> },
    /// Refused, because an earlier write failed (INV10).
    #[error("{file}: refused, because an earlier write failed; restart when the disk is well")]
    Failed { file: String },
    /// It belongs to another directory.
    #[error(
        "{file} is the catalog of another directory; put the right file there, or take this one \
         away: it is then made anew from the logs"
    )]
    Foreign { file: String },
    /// Another version of walfan made it.
    #[error(
        "{file} has format version {found}, and this walfan reads version {expected}; use the \
         walfan that made it, or take it away: it is then made anew from the logs"
    )]
    Version { file: String, found: u128, expected: u128 },
}

impl CatalogError {
    /// `what` was tried with `file`.
    pub(super) fn disk(file: &str, what: &'static str, source: redb::Error) -> CatalogError {
        let file = file.to_owned();
        let full = |kind| {
            matches!(
                kind,
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
            )
        };
        match &source {
            redb::Error::Io(error) if full(error.kind()) => {
                CatalogError::Full { file, what, source: Box::new(source) }
            }
            _ => CatalogError::Disk { file, what, source: Box::new(source) },
        }
    }
}
