//! What can be wrong with a pgoutput message.

/// A message that cannot be decoded. The source asks for protocol version 1 in text form, so such a
/// message means that something between the server and the engine altered the stream, or that the
/// server is newer than what this version of walfan knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message ends inside a field.
    #[error(
        "a pgoutput message ends at byte {at}, inside its {field}; check what lies between \
         the engine and the server, then restart the source"
    )]
    Truncated {
        /// The field.
        field: &'static str,
        /// Where the message ends.
        at: usize,
    },
    /// The message goes on after its last field.
    #[error(
        "a pgoutput message has {count} bytes after its last field; the server speaks a newer \
         protocol than version 1: use a newer walfan"
    )]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The message is of an unknown kind.
    #[error(
        "pgoutput sent a message of kind {tag:?}, which protocol version 1 does not have: check \
         that nothing but this engine sets options on its slot"
    )]
    UnknownMessage {
        /// The kind.
        tag: char,
    },
    /// A row is of an unknown kind.
    #[error("pgoutput sent a row of kind {kind:?}: K, O and N are known; use a newer walfan")]
    UnknownTuple {
        /// The kind.
        kind: char,
    },
    /// A value is in a form that was not asked for.
    #[error("pgoutput sent a value of kind {kind:?}: n, t and u are known; use a newer walfan")]
    UnknownValue {
        /// The kind.
        kind: char,
    },
    /// A name is not UTF-8.
    #[error(
        "pgoutput sent a {field} that is not UTF-8, although the source set client_encoding to \
         UTF8: check the database's encoding (SQL_ASCII converts nothing)"
    )]
    NotUtf8 {
        /// The field.
        field: &'static str,
    },
}
